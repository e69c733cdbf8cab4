package scrub_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/clewsec/clew/internal/sensor/scrub"
)

const r = scrub.Redacted

func TestArgs(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"nothing", []string{"ls", "-la", "/etc"}, []string{"ls", "-la", "/etc"}},
		{"long option glued", []string{"x", "--password=hunter2"}, []string{"x", "--password=" + r}},
		{"long option apart", []string{"x", "--password", "hunter2", "y"}, []string{"x", "--password", r, "y"}},
		{"one dash", []string{"java", "-Djavax.net.ssl.keyStorePassword=abc"}, []string{"java", "-Djavax.net.ssl.keyStorePassword=" + r}},
		{"option without value", []string{"x", "--password", "--verbose"}, []string{"x", "--password", "--verbose"}},
		{"mysql", []string{"/usr/bin/mysql", "-uroot", "-psecret", "db"}, []string{"/usr/bin/mysql", "-uroot", "-p" + r, "db"}},
		{"p of another program", []string{"mkdir", "-p", "a/b"}, []string{"mkdir", "-p", "a/b"}},
		{"glued p of another program", []string{"ssh", "-p22", "h"}, []string{"ssh", "-p22", "h"}},
		{"sshpass", []string{"sshpass", "-p", "x", "ssh", "h"}, []string{"sshpass", "-p", r, "ssh", "h"}},
		{"curl user", []string{"curl", "-u", "me:pw", "http://h/"}, []string{"curl", "-u", "me:" + r, "http://h/"}},
		{"header", []string{"curl", "-H", "Authorization: Bearer abc.def", "h"}, []string{"curl", "-H", "Authorization: Bearer " + r, "h"}},
		{"url", []string{"git", "clone", "https://u:p@h/r.git"}, []string{"git", "clone", "https://u:" + r + "@h/r.git"}},
		{"url without password", []string{"git", "clone", "https://u@h:8080/r"}, []string{"git", "clone", "https://u@h:8080/r"}},
		{"shell assignment", []string{"sh", "-c", "TOKEN=abc ./run --api-key=k1 x"}, []string{"sh", "-c", "TOKEN=" + r + " ./run --api-key=" + r + " x"}},
		{"variable reference stays", []string{"sh", "-c", "PASSWORD=$PW run"}, []string{"sh", "-c", "PASSWORD=$PW run"}},
		{"json", []string{"curl", "-d", `{"user":"a","password":"b c"}`}, []string{"curl", "-d", `{"user":"a","password":"` + r + `"}`}},
		{"query", []string{"curl", "http://h/?a=1&token=xyz&b=2"}, []string{"curl", "http://h/?a=1&token=" + r + "&b=2"}},
		{"aws key", []string{"aws", "configure", "set", "k", "AKIAIOSFODNN7EXAMPLE"}, []string{"aws", "configure", "set", "k", r}},
		{"github token", []string{"gh", "ghp_0123456789abcdefghijklmnopqrstuvwxyz"}, []string{"gh", r}},
		{"file names stay", []string{"cat", "/etc/passwd", "/etc/shadow", "password.txt"}, []string{"cat", "/etc/passwd", "/etc/shadow", "password.txt"}},
		{"PWD stays", []string{"env", "PWD=/root"}, []string{"env", "PWD=/root"}},
		{"askpass stays", []string{"env", "SSH_ASKPASS=/bin/x"}, []string{"env", "SSH_ASKPASS=/bin/x"}},
		{"empty", nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			given := slices.Clone(tt.args)
			got := scrub.Args(tt.args)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if !slices.Equal(tt.args, given) {
				t.Errorf("the input was changed to %q", tt.args)
			}
			if again := scrub.Args(got); !slices.Equal(again, got) {
				t.Errorf("scrubbing twice gives %q", again)
			}
		})
	}
}

func TestEnv(t *testing.T) {
	for in, want := range map[string]string{
		"HOME=/root":                     "HOME=/root",
		"AWS_SECRET_ACCESS_KEY=abc":      "AWS_SECRET_ACCESS_KEY=" + r,
		"DATABASE_URL=postgres://u:p@h/": "DATABASE_URL=postgres://u:" + r + "@h/",
		"DD_SERVICE=web":                 "DD_SERVICE=web",
		"OLDPWD=/x":                      "OLDPWD=/x",
		"EMPTY=":                         "EMPTY=",
		"nothing":                        "nothing",
	} {
		if got := scrub.Env(in); got != want {
			t.Errorf("Env(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzArgs(f *testing.F) {
	f.Add("curl\x00-H\x00Authorization: Basic x\x00https://a:b@c/?token=1")
	f.Add("mysql\x00-p\x00-psecret")
	f.Add("x\x00\"password\": \"")
	f.Add("x\x00://:@\x00=:=")
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, "\x00")
		got := scrub.Args(args)
		if len(got) != len(args) {
			t.Fatalf("%d arguments became %d", len(args), len(got))
		}
		if !slices.Equal(scrub.Args(args), got) {
			t.Fatal("two runs differ")
		}
	})
}

func BenchmarkArgs(b *testing.B) {
	args := strings.Fields("/usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -imultiarch x86_64-linux-gnu main.c -dumpbase main.c -O2 -o /tmp/x.s")
	b.ReportAllocs()
	for b.Loop() {
		scrub.Args(args)
	}
}
