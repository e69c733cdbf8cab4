package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/clewsec/clew/internal/testkit/proc"
)

// namesEnv makes the test binary the program that asks for a name and connects
// to what it is told.
const namesEnv = "CLEW_SYSTEM_LOOKUP"

// lookUp asks a name server on this host, and connects to the answer.
func lookUp(name string) error {
	id := uint16(time.Now().UnixNano())
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		return err
	}
	c, err := net.Dial("udp", nameServerAddr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		return err
	}
	var buf [512]byte
	c.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := c.Read(buf[:])
	if err != nil {
		return err
	}
	if err := m.Unpack(buf[:n]); err != nil {
		return err
	}
	a, ok := m.Answers[0].Body.(*dnsmessage.AResource)
	if !ok {
		return errors.New("no address")
	}
	t, err := net.Dial("tcp", net.JoinHostPort(net.IP(a.A[:]).String(), os.Getenv(namesEnv)))
	if err != nil {
		return err
	}
	return t.Close()
}

const nameServerAddr = "127.0.0.76:53"

// serveName answers every question with one address.
func serveName(t *testing.T, addr [4]byte) {
	t.Helper()
	pc, err := net.ListenPacket("udp", nameServerAddr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		var buf [512]byte
		for {
			n, from, err := pc.ReadFrom(buf[:])
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: addr},
			}}
			if b, err := m.Pack(); err == nil {
				pc.WriteTo(b, from)
			}
		}
	}()
}

// TestNames asks for a name and connects: rules on the question, on the packet
// that carried it and on the connection's name each find it, once it is stored.
func TestNames(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "names.policy")
	mark := fmt.Sprintf("n%d.example.org", time.Now().UnixNano())
	rules := fmt.Sprintf(`rules:
  - id: name_asked
    expression: dns.question.name == "%[1]s"
    tags: {severity: medium}
  - id: name_packet
    expression: dns.question.name == "%[1]s" && network.destination.port == 53
    tags: {severity: medium}
  - id: name_connected
    expression: connect.addr.hostname == "%[1]s"
    tags: {severity: medium}
`, mark)
	if err := os.WriteFile(policy, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _ := watching(t, "--policies", policy)
	serveName(t, [4]byte{127, 0, 0, 77})
	l, err := net.Listen("tcp", "127.0.0.77:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, mark+".")
	cmd.Env = append(os.Environ(), namesEnv+"="+port)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid := cmd.ProcessState.Pid()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("time is up"))
	defer cancel()
	for rule, want := range map[string]string{"name_asked": "dns", "name_packet": "dns", "name_connected": "connect"} {
		if err := proc.Until(ctx, func() (bool, error) {
			out, err := c.Run(ctx, "events", "--json", "--since", "1h", "--rule", rule)
			if err != nil {
				return false, err
			}
			for line := range bytes.Lines(out) {
				var e struct {
					Kind   string `json:"kind"`
					Fields struct {
						PID json.Number `json:"process.pid"`
					} `json:"fields"`
				}
				if err := json.Unmarshal(line, &e); err != nil {
					return false, err
				}
				if e.Kind == want && e.Fields.PID.String() == strconv.Itoa(pid) {
					return true, nil
				}
			}
			return false, nil
		}); err != nil {
			t.Errorf("no event of %s by process %d: %v", rule, pid, err)
		}
	}
}
