package cgroup

import (
	"strings"
	"testing"
)

const (
	id1   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	id2   = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	pod   = "2ca4a155-3599-498d-bb9d-4446693fa3ea"
	unit  = "pod2ca4a155_3599_498d_bb9d_4446693fa3ea"
	bk    = "q4ju0k6d0q9dkc7fp6hz4x5cn"
	user  = "/user.slice/user-1000.slice/user@1000.service"
	slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-" + unit + ".slice"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		want       Place
	}{
		// Docker.
		{"docker, cgroupfs, v1 and v2", "/docker/" + id1, Place{ID: id1, Manager: Docker}},
		{"docker, systemd", "/system.slice/docker-" + id1 + ".scope", Place{ID: id1, Manager: Docker}},
		{"docker, systemd, within", "/system.slice/docker-" + id1 + ".scope/init.scope", Place{ID: id1, Manager: Docker}},
		{"docker, its own slice", "/apps.slice/docker-" + id1 + ".scope", Place{ID: id1, Manager: Docker}},
		{"docker, cgroup parent", "/build/" + id1, Place{ID: id1}},
		{"docker in docker", "/docker/" + id1 + "/docker/" + id2, Place{ID: id2, Manager: Docker}},
		{"docker in docker, moved to make room", "/docker/" + id1 + "/init", Place{ID: id1, Manager: Docker}},
		{"docker, rootless", user + "/user.slice/docker-" + id1 + ".scope", Place{ID: id1, Manager: Docker, User: true}},
		{"docker on ECS", "/ecs/0123456789abcdef0123456789abcdef/" + id1, Place{ID: id1, Manager: Docker}},
		{"docker swarm on the host's daemon", "/system.slice/docker.service", Place{Manager: Systemd}},
		{"BuildKit in docker, cgroupfs", "/docker/buildkit/" + bk, Place{ID: bk, Manager: BuildKit}},
		{"BuildKit in docker, systemd", "/system.slice/docker-" + bk + ".scope", Place{ID: bk, Manager: BuildKit}},

		// containerd without Kubernetes.
		{"nerdctl, cgroupfs", "/default/" + id1, Place{ID: id1, Manager: Containerd}},
		{"nerdctl, systemd", "/system.slice/nerdctl-" + id1 + ".scope", Place{ID: id1, Manager: Containerd}},
		{"nerdctl, rootless", user + "/user.slice/nerdctl-" + id1 + ".scope", Place{ID: id1, Manager: Containerd, User: true}},

		// Kubernetes.
		{"containerd, cgroupfs driver", "/kubepods/besteffort/pod" + pod + "/" + id1, Place{ID: id1, Manager: Containerd, Kube: true}},
		{"containerd, guaranteed", "/kubepods/pod" + pod + "/" + id1, Place{ID: id1, Manager: Containerd, Kube: true}},
		{"containerd, systemd driver", slice + "/cri-containerd-" + id1 + ".scope", Place{ID: id1, Manager: Containerd, Kube: true}},
		{"containerd, static pod", "/kubepods.slice/kubepods-pod0123456789abcdef0123456789abcdef.slice/cri-containerd-" + id1 + ".scope",
			Place{ID: id1, Manager: Containerd, Kube: true}},
		{"containerd, a unit below its own", slice + "/cri-containerd-" + id1 + ".scope/system.slice/nginx.service", Place{ID: id1, Manager: Containerd, Kube: true}},
		{"containerd, drivers that differ", "/system.slice/containerd.service/kubepods-besteffort-" + unit + ".slice:cri-containerd:" + id1,
			Place{ID: id1, Manager: Containerd, Kube: true}},
		{"the same, v1", "/kubepods-besteffort-" + unit + ".slice:cri-containerd:" + id1, Place{ID: id1, Manager: Containerd, Kube: true}},
		{"docker, systemd driver", slice + "/docker-" + id1 + ".scope", Place{ID: id1, Manager: Docker, Kube: true}},
		{"CRI-O, systemd driver", slice + "/crio-" + id1 + ".scope", Place{ID: id1, Manager: CRIO, Kube: true}},
		{"CRI-O, with crun", slice + "/crio-" + id1 + ".scope/container", Place{ID: id1, Manager: CRIO, Kube: true}},
		{"CRI-O, sandbox without a scope", slice + "/crio-" + id1, Place{ID: id1, Manager: CRIO, Kube: true}},
		{"CRI-O, cgroupfs driver", "/kubepods/burstable/pod" + pod + "/crio-" + id1, Place{ID: id1, Manager: CRIO, Kube: true}},
		{"CRI-O's monitor", slice + "/crio-conmon-" + id1 + ".scope", Place{Manager: Systemd}},
		{"CRI-O's monitor, cgroupfs driver", "/kubepods/burstable/pod" + pod + "/crio-conmon-" + id1, Place{}},
		{"kind, cgroupfs", "/docker/" + id1 + "/kubelet/kubepods/besteffort/pod" + pod + "/" + id2, Place{ID: id2, Manager: Containerd, Kube: true}},
		{"kind, systemd", "/system.slice/docker-" + id1 + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-" +
			unit + ".slice/cri-containerd-" + id2 + ".scope", Place{ID: id2, Manager: Containerd, Kube: true}},
		{"kind, the node's own", "/docker/" + id1 + "/system.slice/containerd.service", Place{ID: id1, Manager: Docker}},
		{"kind in podman", "/machine.slice/libpod-" + id1 + ".scope/container/kubelet.slice/kubelet-kubepods.slice/cri-containerd-" + id2 + ".scope",
			Place{ID: id2, Manager: Containerd, Kube: true}},
		{"minikube with CRI-O", "/docker/" + id1 + "/kubepods.slice/kubepods-besteffort.slice/crio-" + id2 + ".scope", Place{ID: id2, Manager: CRIO, Kube: true}},
		{"k3s", "/kubepods/burstable/pod" + pod + "/" + id1, Place{ID: id1, Manager: Containerd, Kube: true}},
		{"k3d", "/docker/" + id1 + "/kubepods/burstable/pod" + pod + "/" + id2, Place{ID: id2, Manager: Containerd, Kube: true}},
		{"a pod itself", "/kubepods/burstable/pod" + pod, Place{}},

		// Podman.
		{"podman", "/machine.slice/libpod-" + id1 + ".scope", Place{ID: id1, Manager: Podman}},
		{"podman, v2 with crun", "/machine.slice/libpod-" + id1 + ".scope/container", Place{ID: id1, Manager: Podman}},
		{"podman, in a pod", "/machine.slice/machine-libpod_pod_" + id2 + ".slice/libpod-" + id1 + ".scope/container", Place{ID: id1, Manager: Podman}},
		{"podman, cgroupfs", "/libpod_parent/libpod-" + id1, Place{ID: id1, Manager: Podman}},
		{"podman, cgroupfs, early", "/libpod_parent/" + id1 + "/ctr", Place{ID: id1, Manager: Podman}},
		{"podman, split within a service", "/system.slice/web.service/libpod-payload-" + id1, Place{ID: id1, Manager: Podman}},
		{"podman, rootless", user + "/user.slice/libpod-" + id1 + ".scope/container", Place{ID: id1, Manager: Podman, User: true}},
		{"podman, rootless, in a pod", user + "/user.slice/user-libpod_pod_" + id2 + ".slice/libpod-" + id1 + ".scope", Place{ID: id1, Manager: Podman, User: true}},
		{"podman's monitor", "/machine.slice/libpod-conmon-" + id1 + ".scope", Place{Manager: Systemd}},
		{"podman's monitor, rootless", user + "/user.slice/libpod-conmon-" + id1 + ".scope", Place{Manager: Systemd, User: true}},
		{"podman itself", user + "/user.slice/podman-239302.scope", Place{Manager: Systemd, User: true}},

		// Machines.
		{"LXC", "/lxc/web", Place{ID: "web", Manager: LXC}},
		{"LXC 3.1", "/lxc.payload/web/system.slice/nginx.service", Place{ID: "web", Manager: LXC}},
		{"LXC 4, Incus", "/lxc.payload.web/system.slice/nginx.service", Place{ID: "web", Manager: LXC}},
		{"LXC's monitor", "/lxc.monitor.web", Place{}},
		{"docker in LXC", "/lxc.payload.web/docker/" + id1, Place{ID: id1, Manager: Docker}},
		{"nspawn", `/machine.slice/machine-web\x2d1.scope/payload/system.slice`, Place{ID: "web-1", Manager: Nspawn}},
		{"nspawn as a service", "/machine.slice/systemd-nspawn@web.service/payload", Place{ID: "web", Manager: Nspawn}},
		{"a virtual machine", `/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt/emulator`, Place{}},

		// No container.
		{"root", "/", Place{}},
		{"nothing", "", Place{}},
		{"service", "/system.slice/ssh.service", Place{Manager: Systemd}},
		{"session", "/user.slice/user-1000.slice/session-3.scope", Place{Manager: Systemd}},
		{"desktop application", user + "/app.slice/app-org.gnome.Terminal.slice/vte-spawn-f22f14d2-3d44-4304-9879-3fdd0df7b08e.scope", Place{Manager: Systemd, User: true}},
		{"63 digits", "/docker/" + id1[1:], Place{}},
		{"65 digits", "/docker/0" + id1, Place{}},
		{"upper case", "/docker/" + strings.ToUpper(id1), Place{}},
		{"no dash", "/docker" + id1, Place{}},
		{"not BuildKit's", "/docker/" + bk, Place{}},
	} {
		if got := Parse(tt.path); got != tt.want {
			t.Errorf("%s: Parse(%q) = %+v, want %+v", tt.name, tt.path, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/docker/" + id1, slice + "/cri-containerd-" + id1 + ".scope", `/machine.slice/machine-a\x2db.scope`, "a:b:" + id1, "//lxc//", "docker-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p := Parse(path)
		if p.ID != "" && !strings.Contains(path, p.ID) && p.Manager != Nspawn {
			t.Errorf("Parse(%q): id %q is not in it", path, p.ID)
		}
		if p.Kube && p.ID == "" {
			t.Errorf("Parse(%q): %+v", path, p)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, path := range []string{"/system.slice/ssh.service", slice + "/cri-containerd-" + id1 + ".scope"} {
		b.Run(path[1:8], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(path)
			}
		})
	}
}
