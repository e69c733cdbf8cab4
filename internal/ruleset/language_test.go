package ruleset_test

import (
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/event"
	"github.com/clewsec/clew/internal/ruleset"
	"github.com/clewsec/clew/internal/ruleset/evalfile"
)

// decoded reads an event written as JSON.
func decoded(t testing.TB, d *evalfile.Decoder, text string) *event.Event {
	t.Helper()
	e, err := d.Decode([]byte(strings.ReplaceAll(text, "\n", "")))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The events of the table below.
const (
	execJava = `{"kind":"exec","at":1700000000000000000,"fields":{"exec.file.path":"/usr/bin/curl","exec.comm":"curl","process.pid":77,"process.uid":33,
"exec.argv":["-sSL","--retry=3","-o","/tmp/x","http://a.example.co.uk"],"exec.argv0":"curl","exec.envs":["PATH","HOME"],"exec.envp":["LD_PRELOAD=/tmp/e.so"],
"exec.cap_effective":2097152,"process.created_at":1699999998000000000,"process.user_session.ssh_auth_method":2,"process.user_session.ssh_client_ip":"203.0.113.9",
"exec.file.hashes":["sha256:aa","md5:bb"],"exec.file.change_time":1699999000000000000,
"process.parent.file.path":"/usr/bin/java","process.parent.uid":33,
"process.ancestors":[{"file.path":"/usr/bin/java","uid":33,"argv":["-jar","app.jar"]},{"file.path":"/usr/bin/tini","uid":0,"argv":["-s"]}]}}`
	dnsQuery = `{"kind":"dns","fields":{"dns.question.name":"WWW.Evil.Example.CO.UK","dns.question.type":16,"dns.question.length":40,
"network.destination.ip":"10.1.2.3","network.destination.port":53,"network.l4_protocol":17,"network.network_direction":1}}`
	connected = `{"kind":"connect","fields":{"connect.addr.ip":"8.8.8.8","connect.addr.port":443,"connect.addr.family":2,
"connect.addr.hostname":["api.pages.github.io","x.test.example.com"],"connect.retval":-1}}`
	flows = `{"kind":"network_flow_monitor","fields":{"network_flow_monitor.device.ifname":"eth0","network_flow_monitor.flows":[
{"source.ip":"10.0.0.1","source.port":40000,"destination.ip":"10.2.0.7","destination.port":22,"l4_protocol":6,"egress.data_size":10},
{"source.ip":"10.0.0.9","source.port":40001,"destination.ip":"192.168.0.7","destination.port":443,"l4_protocol":6,"egress.data_size":5000}]}}`
	traced = `{"kind":"ptrace","fields":{"ptrace.request":16,"ptrace.tracee.file.path":"/usr/sbin/sshd","ptrace.tracee.uid":0,
"ptrace.tracee.ancestors":[{"file.path":"/usr/bin/a","uid":5},{"file.path":"/sbin/init","uid":0}]}}`
	opened = `{"kind":"open","at":1700000000000000000,"fields":{"open.file.path":"/etc/cron.d/x","open.flags":577,"open.retval":3,"open.file.hashes":["sha256:aa"],
"open.file.change_time":1699999999000000000,"process.created_at":1699999998000000000,"process.uid":0,"process.comm":"x"}}`
	loaded   = `{"kind":"bpf","fields":{"bpf.cmd":5,"bpf.prog.helpers":[36,1],"bpf.map.name":"critical"}}`
	renamed  = `{"kind":"rename","fields":{"rename.file.path":"/tmp/new","rename.file.destination.path":"/etc/passwd"}}`
	signaled = `{"kind":"signal","fields":{"signal.type":9,"signal.target.file.name":"auditd","signal.target.ancestors":[{"comm":"systemd"}],"signal.retval":0}}`
)

// TestLanguage proves, statement by statement, what rules mean on real events.
func TestLanguage(t *testing.T) {
	d, err := evalfile.New()
	if err != nil {
		t.Fatal(err)
	}
	events := map[string]*event.Event{}
	for _, tc := range []struct {
		about, event, expr string
		want               bool
	}{
		{"a comment ends the line", execJava, "exec.comm == \"curl\" # why", true},
		{"lists without spaces", opened, `open.flags in[577,1] && open.flags not in [O_CREAT,O_TRUNC]`, true},
		{"hexadecimal and glued signs", opened, `open.flags==0x241 && open.retval==1+2`, true},
		{"days", opened, `open.file.change_time < 1d`, true},
		{"right nesting", opened, `open.retval == 3 || open.retval == 4 && open.retval == 5`, true},
		{"bit operators bind tighter than comparison", opened, `open.flags & O_CREAT|O_TRUNC > 0`, true},
		{"complement", opened, `^open.retval == -4`, true},
		{"error constants are negative", connected, `connect.retval == EPERM`, true},
		{"a scalar is a list of one for allin", opened, `open.flags allin [577, 1]`, true},

		{"any element", execJava, `exec.argv == "-o" && exec.argv =~ "http*" && "-o" in exec.argv`, true},
		{"no element", execJava, `exec.argv != "-o"`, false},
		{"no element of a list", execJava, `exec.argv not in ["-x", ~"-Y*"]`, true},
		{"allin of strings is in", execJava, `exec.argv allin ["-o", "nothing"]`, true},
		{"integers in a list", loaded, `bpf.prog.helpers == BPF_PROBE_WRITE_USER && bpf.prog.helpers in [BPF_PROBE_WRITE_USER] && bpf.prog.helpers not in [99]`, true},
		{"length of a list", execJava, `exec.argv.length == 5 && exec.envs.length == 2`, true},
		{"length of a path and a name", execJava, `exec.file.path.length == 13 && exec.file.name.length == 4`, true},
		{"element of a list", execJava, `exec.argv[0] == "-sSL" && exec.argv[3] == "/tmp/x" && exec.argv[99] == ""`, true},
		{"element of hashes", execJava, `exec.file.hashes[1] == "md5:bb"`, true},
		{"element of integers", loaded, `bpf.prog.helpers[0] == 36 && bpf.prog.helpers[9] == 0`, true},
		{"flags", execJava, `exec.args_flags in ["s"] && exec.args_flags == "sSL" && exec.args_flags == "S" && exec.args_flags != "retry"`, true},
		{"options", execJava, `exec.args_options in [~"retry=*"] && exec.args_options == "o=/tmp/x"`, true},
		{"argument line", execJava, `exec.args =~ "-sSL --retry=3 -o*" && exec.argv0 == "curl"`, true},
		{"environment", execJava, `exec.envs == "HOME" && exec.envp =~ "LD_PRELOAD=*"`, true},
		{"capabilities", execJava, `exec.cap_effective & (CAP_SYS_ADMIN|CAP_BPF) > 0`, true},
		{"extension", opened, `open.file.extension == "" && open.file.name == "x"`, true},

		{"ancestors", execJava, `exec.comm == "curl" && process.ancestors.file.name == "java" && process.ancestors.uid == 0`, true},
		{"a register binds one element", execJava, `exec.comm == "curl" && process.ancestors[A].file.name == "java" && process.ancestors[A].uid == 0`, false},
		{"a register finds the later one", execJava, `exec.comm == "curl" && process.ancestors[A].file.name == "tini" && process.ancestors[A].uid == 0`, true},
		{"length of ancestors", execJava, `exec.comm == "curl" && process.ancestors.length == 2`, true},
		{"lists of lists", execJava, `exec.comm == "curl" && process.ancestors.argv == "app.jar" && process.ancestors.argv != "curl"`, true},
		{"ancestors of another process", traced, `ptrace.tracee.ancestors.file.name == "init" && ptrace.tracee.parent.file.name == "a"`, true},
		{"register there", traced, `ptrace.request == PTRACE_ATTACH && ptrace.tracee.ancestors[X].file.name == "init" && ptrace.tracee.ancestors[X].uid == 5`, false},
		{"of a signal", signaled, `signal.type == SIGKILL && signal.target.file.name == "auditd" && signal.target.ancestors.comm == "systemd"`, true},
		{"flows", flows, `network_flow_monitor.flows.destination.port == 22 && network_flow_monitor.flows.egress.data_size > 4000`, true},
		{"register of flows", flows, `network_flow_monitor.flows[F].destination.port == 22 && network_flow_monitor.flows[F].egress.data_size > 4000`, false},
		{"register of flows, the other", flows, `network_flow_monitor.flows[F].destination.port == 443 && network_flow_monitor.flows[F].egress.data_size > 4000`, true},
		{"length of flows", flows, `network_flow_monitor.flows.length == 2 && network_flow_monitor.device.ifname == "eth0"`, true},
		{"allin of networks is all of all", flows, `network_flow_monitor.flows.source.ip allin [10.0.0.0/8, 10.0.0.0/16]`, true},
		{"and one outside is not", flows, `network_flow_monitor.flows.destination.ip allin [10.0.0.0/8]`, false},
		{"in of networks is any", flows, `network_flow_monitor.flows.destination.ip in [192.168.0.0/16] && network_flow_monitor.flows.destination.ip not in [172.16.0.0/12]`, true},
		{"public addresses", flows, `network_flow_monitor.flows.destination.is_public`, false},

		{"age", execJava, `exec.comm == "curl" && process.created_at < 5s && process.created_at > 1s`, true},
		{"a difference is no age", opened, `open.file.change_time - process.created_at == 1s`, true},
		{"reversed it is a number", opened, `5s > open.file.change_time`, false},

		{"packets have network fields", dnsQuery, `dns.question.type == TXT && network.destination.port == 53 && network.l4_protocol == IP_PROTO_UDP && network.network_direction == EGRESS`, true},
		{"names without case", dnsQuery, `dns.question.name == "www.EVIL.example.co.uk" && dns.question.name =~ "*.EXAMPLE.co.uk" && dns.question.name in [r"^www\.evil"]`, true},
		{"length of the question in bytes", dnsQuery, `dns.question.length == 40`, true},
		{"registered name", dnsQuery, `dns.question.name.root_domain == "example.co.uk"`, true},
		{"registered names", connected, `connect.addr.hostname.root_domain in ["example.com"] && connect.addr.hostname.root_domain == "pages.github.io"`, true},
		{"networks", connected, `connect.addr.ip == 8.8.0.0/16 && connect.addr.ip in 8.0.0.0/8 && connect.addr.ip not in [10.0.0.0/8, ::1] && connect.addr.is_public`, true},
		{"session", execJava, `exec.comm == "curl" && process.user_session.ssh_auth_method == SSH_AUTH_METHOD_PUBLIC_KEY && process.user_session.ssh_client_ip in [203.0.113.0/24]`, true},

		{"both sides of a rename", renamed, `rename.file.path == "/tmp/new" && rename.file.destination.path == "/etc/passwd" && rename.file.destination.name == "passwd"`, true},
		{"old names", renamed, `rename.old.filename == "/tmp/new" && rename.new.basename == "passwd"`, true},
		{"the sensor's own maps", loaded, `bpf.map.name in CWS_MAP_NAMES`, true},
		{"other maps", loaded, `bpf.map.name not in CWS_MAP_NAMES`, false},
		{"text with variables", opened, `open.file.name == "x" && process.comm == "x" && open.file.path == "/etc/cron.d/x"`, true},
		{"pid in a text", execJava, `exec.comm != "curl${process.pid}" && ${process.pid} == 77`, true},
	} {
		e := events[tc.event]
		if e == nil {
			e = decoded(t, d, tc.event)
			events[tc.event] = e
		}
		if u := d.Unknown(); len(u) > 0 {
			t.Fatalf("unknown fields %v", u)
		}
		set, report, err := ruleset.Load(ruleset.Config{Schema: d.Schema()}, []ruleset.File{{Name: "t.policy", Data: []byte("rules:\n  - id: r\n    expression: |-\n      " + tc.expr + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		if report.Failed() {
			t.Errorf("%s: %s: %v", tc.about, tc.expr, report.Problems)
			continue
		}
		if got := len(set.Eval(e, nil)) > 0; got != tc.want {
			t.Errorf("%s: %s: got %v", tc.about, tc.expr, got)
		}
	}
}

// TestRefusals proves what rules must not say.
func TestRefusals(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ expr, want string }{
		{`network.destination.port == 53 && exec.comm == "x"`, "not available for exec events"},
		{`network.destination.port == 53 && connect.addr.port == 1`, "not available for connect events"},
		{`process.uid == 0`, "no field names a kind of event"},
		{`dns.question.name == "a" && imds.url == "/"`, "is a field of"},
		{`bpf.map.name == "a name of more than sixteen"`, "at most 16 bytes"},
		{`bpf.prog.name == "a name of more than sixteen"`, "at most 16 bytes"},
		{`bpf.prog.name =~ "a name of more than sixteen*"`, "at most 16 bytes"},
		{`exec.file.hashes[A] == "x"`, "not a list of objects"},
		{`exec.uid[0] == 1`, "only a list has elements"},
		{`process.ancestors[A].uid == 0 && exec.uid == 1 && process.ancestors[B].uid == 1`, "can have one register"},
		{`process.ancestors[_].uid == 0 && exec.uid == 1`, "_ cannot be the name of a register"},
		{`signal.target.ancestors[A].uid == 0 && process.ancestors[A].uid == 1`, "can have one register"},
		{`exec.argv0 =~ "x${process.pid}*"`, "needs a literal"},
		{`open.file.path =~ process.file.path`, "needs a literal"},
		{`exec.comm.root_domain == "x"`, "unknown field"},
		{`fim.write.file.flags == 1`, "unknown field"},
		{`open.flags != 5s`, "does not work with a duration"},
		{`exec.comm in ["a", 1]`, ""},
	} {
		_, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "t.policy", Data: []byte("rules:\n  - id: r\n    expression: |-\n      " + tc.expr + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, p := range report.Problems {
			said = append(said, p.Msg)
		}
		if !report.Failed() || !strings.Contains(strings.Join(said, "; "), tc.want) {
			t.Errorf("%s: got %q, want %q", tc.expr, said, tc.want)
		}
	}
}

// TestRuleTags holds that a rule sees its own product tags, and no others.
func TestRuleTags(t *testing.T) {
	set := loadRules(t, `
macros:
  - {id: THREAT, expression: '"policy:threat-detection" in event.rule.tags'}
rules:
  - {id: a, product_tags: ["policy:threat-detection", "tactic:TA0002-execution"], expression: 'THREAT && exec.file.name == "x"'}
  - {id: b, product_tags: ["policy:compliance"], expression: 'THREAT && exec.file.name == "x"'}
  - {id: c, expression: 'THREAT && exec.file.name == "x"'}
  - {id: d, expression: 'event.rule.tags not in ["policy:compliance"] && exec.file.name == "x"'}
  - {id: e, product_tags: ["policy:compliance"], expression: 'event.rule.tags == ~"policy:*" && event.rule.tags.length == 1 && exec.file.name == "x"'}
`)
	e := build(t, `{kind: exec, lineage: [{exec: /bin/x}]}`)
	if got := ids(set.Eval(e, nil)); got != "a d e" {
		t.Errorf("got %s", got)
	}
}

// TestElsewhere holds that rules on what exists on other systems only are left
// out, not wrong.
func TestElsewhere(t *testing.T) {
	schema, err := ruleset.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, expr := range []string{
		`set.registry.key_path =~ "HKEY*"`, `open.registry.key_name == "x"`, `create.file.name == "x"`, `exec.cmdline =~ "*x*" && exec.uid == 0`,
		`write.file.device_path == "x"`, `set_key_value.value_name == "x"`, `change_permission.new_sd != ""`, `rename.file.device_path == "x"`,
	} {
		_, report, err := ruleset.Load(ruleset.Config{Schema: schema}, []ruleset.File{{Name: "t.policy", Data: []byte("rules:\n  - id: r\n    expression: |-\n      " + expr + "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		if report.Count(ruleset.Filtered) != 1 || report.Failed() {
			t.Errorf("%s: %+v", expr, report.Problems)
		}
	}
}
