package execctx

import "testing"

func TestInterprets(t *testing.T) {
	for name, want := range map[string]bool{"sh": true, "python3.11": true, "perl": true, "cat": false, "": false, "3": false} {
		if got := interprets(name); got != want {
			t.Errorf("interprets(%q) is %v", name, got)
		}
	}
}

func TestSchedules(t *testing.T) {
	for path, want := range map[string]bool{
		"/etc/cron.d/upd": true, "/var/spool/cron/crontabs/root": true, "/etc/crontab": true, "/tmp/x/etc/cron.d/upd": true,
		"/etc/systemd/system/x.service": true, "/etc/passwd": false, "/etc/cron.d": false,
	} {
		if got := schedules(path); got != want {
			t.Errorf("schedules(%q) is %v", path, got)
		}
	}
}
