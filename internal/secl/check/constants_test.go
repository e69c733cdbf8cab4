package check

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConstants compares names of every group with another source of the same
// numbers; those that differ between machines are left out.
func TestConstants(t *testing.T) {
	for name, want := range map[string]int64{
		"ENOENT": -int64(unix.ENOENT), "EILSEQ": -int64(unix.EILSEQ), "EIDRM": -int64(unix.EIDRM), "ERFKILL": -int64(unix.ERFKILL),
		"O_CREAT": unix.O_CREAT, "O_CLOEXEC": unix.O_CLOEXEC, "S_ISUID": unix.S_ISUID, "S_IFSOCK": unix.S_IFSOCK,
		"AT_REMOVEDIR": unix.AT_REMOVEDIR, "CAP_BPF": 1 << unix.CAP_BPF, "CAP_CHECKPOINT_RESTORE": 1 << unix.CAP_CHECKPOINT_RESTORE,
		"PROT_GROWSUP": unix.PROT_GROWSUP, "MAP_SYNC": unix.MAP_SYNC, "MAP_HUGE_2MB": unix.MAP_HUGE_2MB,
		"SIGSYS": int64(unix.SIGSYS), "PTRACE_SEIZE": unix.PTRACE_SEIZE, "BPF_PROG_BIND_MAP": unix.BPF_PROG_BIND_MAP,
		"BPF_MAP_TYPE_TASK_STORAGE": unix.BPF_MAP_TYPE_TASK_STORAGE, "BPF_PROG_TYPE_SK_LOOKUP": unix.BPF_PROG_TYPE_SK_LOOKUP,
		// Attach types count from 1, so that 0 is a program without one.
		"BPF_CGROUP_INET_INGRESS": unix.BPF_CGROUP_INET_INGRESS + 1, "BPF_SK_LOOKUP": unix.BPF_SK_LOOKUP + 1, "AF_XDP": unix.AF_XDP, "ETH_P_IPV6": unix.ETH_P_IPV6, "ETH_P_MACSEC": unix.ETH_P_MACSEC,
		"IP_PROTO_SCTP": unix.IPPROTO_SCTP, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
		"SOCK_SEQPACKET": unix.SOCK_SEQPACKET, "SOL_SOCKET": unix.SOL_SOCKET, "IPPROTO_ICMPV6": unix.IPPROTO_ICMPV6,
		"SO_ATTACH_FILTER": unix.SO_ATTACH_FILTER, "SO_DETACH_BPF": unix.SO_DETACH_BPF, "SO_LOCK_FILTER": unix.SO_LOCK_FILTER,
		"SO_ATTACH_REUSEPORT_EBPF": unix.SO_ATTACH_REUSEPORT_EBPF, "SO_BINDTODEVICE": unix.SO_BINDTODEVICE, "SO_RCVTIMEO": unix.SO_RCVTIMEO,
		"SO_TIMESTAMPING_NEW": unix.SO_TIMESTAMPING_NEW, "SO_PEERPIDFD": unix.SO_PEERPIDFD, "SO_PASSRIGHTS": unix.SO_PASSRIGHTS,
		"SO_RCVPRIORITY": unix.SO_RCVPRIORITY, "SO_INQ": unix.SO_INQ,
		"IP_TRANSPARENT": unix.IP_TRANSPARENT, "IP_LOCAL_PORT_RANGE": unix.IP_LOCAL_PORT_RANGE, "MCAST_MSFILTER": unix.MCAST_MSFILTER,
		"IP_RECVORIGDSTADDR": unix.IP_RECVORIGDSTADDR, "TCP_MD5SIG": unix.TCP_MD5SIG, "TCP_TX_DELAY": unix.TCP_TX_DELAY, "TCP_ULP": unix.TCP_ULP,
		"IPV6_FREEBIND": unix.IPV6_FREEBIND, "IPV6_V6ONLY": unix.IPV6_V6ONLY, "IPV6_RECVORIGDSTADDR": unix.IPV6_RECVORIGDSTADDR,
		"PR_SET_NAME": unix.PR_SET_NAME, "PR_CAP_AMBIENT": unix.PR_CAP_AMBIENT, "PR_SET_VMA": unix.PR_SET_VMA, "PR_SET_PTRACER": unix.PR_SET_PTRACER,
		"PR_SET_MDWE": unix.PR_SET_MDWE, "PR_SET_MEMORY_MERGE": unix.PR_SET_MEMORY_MERGE, "PR_GET_AUXV": unix.PR_GET_AUXV,
		"PR_FUTEX_HASH": unix.PR_FUTEX_HASH, "PR_TIMER_CREATE_RESTORE_IDS": unix.PR_TIMER_CREATE_RESTORE_IDS,
		"CLONE_NEWUSER": unix.CLONE_NEWUSER, "CLONE_NEWTIME": unix.CLONE_NEWTIME, "CLONE_NEWCGROUP": unix.CLONE_NEWCGROUP,
	} {
		if got, ok := Constant(name); !ok || got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	groups := map[string]int{}
	for _, name := range ConstantNames() {
		prefix, _, _ := strings.Cut(name, "_")
		groups[prefix]++
	}
	// How many names the groups that grew late have at least.
	for prefix, least := range map[string]int{"RLIMIT": 16, "SOCK": 7, "SO": 83, "TCP": 36, "IPV6": 53, "PR": 60, "CLONE": 10} {
		if groups[prefix] < least {
			t.Errorf("%d constants %s_*, want %d at least", groups[prefix], prefix, least)
		}
	}
	if n := groups["IP"] + groups["MCAST"]; n < 35 {
		t.Errorf("%d constants of IP, want 35 at least", n)
	}
}
