package accounts_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/clewsec/clew/internal/accounts"
	"github.com/clewsec/clew/internal/enrich"
)

func write(t *testing.T, path, content string, at int64) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
		t.Fatal(err)
	}
}

func changed(t *testing.T, a *accounts.Accounts) []string {
	t.Helper()
	got, err := a.Changed()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, x := range got {
		out = append(out, x.Question+" "+x.Key+"="+x.Values[0])
	}
	return out
}

func TestAccounts(t *testing.T) {
	dir := t.TempDir()
	passwd, group := filepath.Join(dir, "passwd"), filepath.Join(dir, "group")
	a := accounts.New(passwd, group)
	if got := changed(t, a); got != nil {
		t.Errorf("%v from files that are not there", got)
	}
	write(t, passwd, "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n# no line\nbad\n:x:4:4::/:\nneg:x:-1:1::/:\n+nis\nwww-data:x:33:33::/var/www:/bin/false\n", 1)
	write(t, group, "root:x:0:\nadm:x:4:a,b\n", 1)
	if got, want := changed(t, a), []string{"user 0=root", "user 33=www-data", "group 0=root", "group 4=adm"}; !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
	if got := changed(t, a); got != nil {
		t.Errorf("%v, and nothing has changed", got)
	}
	write(t, passwd, "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\nnew:x:1000:1000::/:\n", 2)
	if got, want := changed(t, a), []string{"user 33=web", "user 1000=new"}; !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
	if n := a.Name(enrich.QuestionUser, 33); n == nil || n.Values[0] != "web" {
		t.Errorf("name %v", n)
	}
	if n := a.Name(enrich.QuestionGroup, 99); n != nil {
		t.Errorf("name %v of nobody", n)
	}
}
