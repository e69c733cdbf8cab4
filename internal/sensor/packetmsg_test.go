//go:build linux && (amd64 || arm64)

package sensor

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/clewsec/clew/internal/event"
)

const imdsRequestText = "GET /latest/meta-data/iam/security-credentials/role HTTP/1.1\r\nHost: 169.254.169.254\r\n" +
	"User-Agent: aws-cli/2\r\nX-aws-ec2-metadata-token: AQAEAsecretsecretsecret==\r\n\r\n"

const imdsAnswerText = "HTTP/1.1 200 OK\r\nServer: EC2ws\r\nContent-Length: 200\r\n\r\n" +
	`{"Code" : "Success", "Type" : "AWS-HMAC", "AccessKeyId" : "ASIAsecret", "SecretAccessKey" : "secretsecret", "Token" : "tok"}`

// dnsHead is a message's head: id, flags, number of questions and of answers.
func dnsHead(id, flags, questions, answers uint16) string {
	b := binary.BigEndian.AppendUint16(nil, id)
	for _, n := range []uint16{flags, questions, answers, 0, 0} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return string(b)
}

const (
	dnsWWW    = "\x03www\x07example\x03org\x00" // at 12
	dnsQ      = dnsWWW + "\x00\x01\x00\x01"
	dnsPtr12  = "\xc0\x0c"
	dnsRR     = "\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" // A, IN, a minute, four bytes
	dnsRR6    = "\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10"
	dnsAlias  = "\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02" // CNAME of two bytes
	dnsAliasL = "\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x07"
)

func dnsMessages() map[string]struct {
	in   string
	want *dnsMessage
} {
	type m = dnsMessage
	ip := netip.MustParseAddr
	q := func(x m) *m {
		x.questions, x.name, x.qtype, x.qclass, x.qsize = 1, "www.example.org", 1, 1, 21
		return &x
	}
	return map[string]struct {
		in   string
		want *dnsMessage
	}{
		"query":            {dnsHead(1, 0x0100, 1, 0) + dnsQ, q(m{id: 1})},
		"empty":            {"", nil},
		"head only":        {dnsHead(1, 0x0100, 1, 0), nil},
		"no question":      {dnsHead(1, 0x0100, 0, 0), nil},
		"answer, nothing":  {dnsHead(1, 0x8183, 0, 0), &m{id: 1, response: true, code: 3}},
		"root":             {dnsHead(1, 0, 1, 0) + "\x00\x00\x02\x00\x01", &m{id: 1, questions: 1, qtype: 2, qclass: 1, qsize: 5}},
		"update":           {dnsHead(1, 0x2800, 1, 0) + dnsQ, nil},
		"question cut":     {dnsHead(1, 0, 1, 0) + dnsQ[:len(dnsQ)-1], nil},
		"label beyond":     {dnsHead(1, 0, 1, 0) + "\x3fwww", nil},
		"reserved label":   {dnsHead(1, 0, 1, 0) + "\x80www\x00\x00\x01\x00\x01", nil},
		"points at itself": {dnsHead(1, 0, 1, 0) + "\xc0\x0c\x00\x01\x00\x01", nil},
		"points forward":   {dnsHead(1, 0, 1, 0) + "\xc0\x20\x00\x01\x00\x01" + dnsWWW, nil},
		"points in circle": {dnsHead(1, 0, 1, 0) + "\x01a\xc0\x0c\x00\x01\x00\x01", nil},
		"name too long":    {dnsHead(1, 0, 1, 0) + strings.Repeat("\x3f"+strings.Repeat("a", 63), 4) + "\x00\x00\x01\x00\x01", nil},
		"longest name": {
			dnsHead(1, 0, 1, 0) + strings.Repeat("\x3f"+strings.Repeat("a", 63), 3) + "\x3d" + strings.Repeat("b", 61) + "\x00\x00\x01\x00\x01",
			&m{id: 1, questions: 1, name: strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61), qtype: 1, qclass: 1, qsize: 259},
		},
		"odd bytes":      {dnsHead(1, 0, 1, 0) + "\x06a.\\\x00\xff\x07\x00\x00\x01\x00\x01", &m{id: 1, questions: 1, name: `a\.\\\000\255\007`, qtype: 1, qclass: 1, qsize: 12}},
		"two questions":  {dnsHead(1, 0, 2, 0) + dnsQ + "\xc0\x10\x00\x10\x00\x01", func() *m { x := q(m{id: 1}); x.questions = 2; return x }()},
		"many questions": {dnsHead(1, 0, 0xffff, 0) + strings.Repeat("\x00\x00\x01\x00\x01", 300), nil},
		"answer":         {dnsHead(2, 0x8180, 1, 1) + dnsQ + dnsPtr12 + dnsRR + "\x0a\x00\x00\x01", q(m{id: 2, response: true, addresses: []netip.Addr{ip("10.0.0.1")}})},
		"answer to upper case": {
			dnsHead(2, 0x8180, 1, 1) + "\x03wWw\x07example\x03org\x00\x00\x01\x00\x01" + dnsWWW + dnsRR + "\x0a\x00\x00\x01",
			func() *m {
				x := q(m{id: 2, response: true, addresses: []netip.Addr{ip("10.0.0.1")}})
				x.name = "wWw.example.org"
				return x
			}(),
		},
		"answer cut":      {dnsHead(2, 0x8180, 1, 2) + dnsQ + dnsPtr12 + dnsRR + "\x0a\x00\x00\x01" + dnsPtr12 + dnsRR + "\x0a", q(m{id: 2, response: true, addresses: []netip.Addr{ip("10.0.0.1")}})},
		"length lies":     {dnsHead(2, 0x8180, 1, 1) + dnsQ + dnsPtr12 + "\x00\x01\x00\x01\x00\x00\x00\x3c\xff\xff\x0a\x00\x00\x01", q(m{id: 2, response: true})},
		"wrong size":      {dnsHead(2, 0x8180, 1, 1) + dnsQ + dnsPtr12 + dnsRR6[:8] + "\x00\x04\x0a\x00\x00\x01", q(m{id: 2, response: true})},
		"of another name": {dnsHead(2, 0x8180, 1, 1) + dnsQ + "\x04evil\x00" + dnsRR + "\x0a\x00\x00\x01", q(m{id: 2, response: true})},
		"aliases": {
			dnsHead(2, 0x8180, 1, 4) + dnsQ + dnsPtr12 + dnsAliasL + "\x04edge\xc0\x10" + // at 45: edge.example.org
				"\xc0\x2d" + dnsAlias + "\xc0\x18" + // which is org
				"\xc0\x18" + dnsRR + "\x0a\x00\x00\x02" + "\x05other\x00" + dnsRR + "\x0a\x00\x00\x03",
			q(m{id: 2, response: true, addresses: []netip.Addr{ip("10.0.0.2")}}),
		},
		"alias of itself": {dnsHead(2, 0x8180, 1, 2) + dnsQ + dnsPtr12 + dnsAlias + dnsPtr12 + dnsPtr12 + dnsRR + "\x0a\x00\x00\x01", q(m{id: 2, response: true, addresses: []netip.Addr{ip("10.0.0.1")}})},
		"IPv6":            {dnsHead(2, 0x8180, 1, 1) + dnsQ + dnsPtr12 + dnsRR6 + strings.Repeat("\x00", 15) + "\x01", q(m{id: 2, response: true, addresses: []netip.Addr{ip("::1")}})},
		"no DNS":          {"GET / HTTP/1.1\r\n\r\n", nil},
	}
}

func TestParseDNS(t *testing.T) {
	for name, x := range dnsMessages() {
		got, ok := parseDNS([]byte(x.in))
		if ok != (x.want != nil) {
			t.Errorf("%s: %v, %+v", name, ok, got)
			continue
		}
		if diff := cmp.Diff(x.want, got, cmp.AllowUnexported(dnsMessage{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func FuzzParseDNS(f *testing.F) {
	for _, x := range dnsMessages() {
		f.Add([]byte(x.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		given := bytes.Clone(b)
		m, ok := parseDNS(b)
		if !bytes.Equal(b, given) || ok != (m != nil) {
			t.Fatal("changed its input, or is of two minds")
		}
		if !ok {
			return
		}
		if len(m.name) > 4*dnsMaxName || len(m.addresses) > dnsMaxRecords || m.qsize > len(b) || !m.response && len(m.addresses) > 0 {
			t.Fatalf("%+v", m)
		}
		for i := range len(m.name) {
			if m.name[i] <= ' ' || m.name[i] > '~' {
				t.Fatalf("name %q", m.name)
			}
		}
	})
}

func TestParseIMDS(t *testing.T) {
	for _, x := range []struct {
		name, in string
		want     *imdsMessage
	}{
		{"request", imdsRequestText, &imdsMessage{url: "/latest/meta-data/iam/security-credentials/role", host: "169.254.169.254", userAgent: "aws-cli/2", provider: "aws", token: true}},
		{"first version", "GET /latest/meta-data/ HTTP/1.0\r\n\r\n", &imdsMessage{url: "/latest/meta-data/", provider: "aws"}},
		{"ask for a token", "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n", &imdsMessage{url: "/latest/api/token", provider: "aws", token: true}},
		{"answer", imdsAnswerText, &imdsMessage{response: true, server: "EC2ws", provider: "aws", credential: "AWS-HMAC"}},
		{"gcp", "GET /computeMetadata/v1/instance/service-accounts/default/token HTTP/1.1\r\nMetadata-Flavor: Google\r\n\r\n", &imdsMessage{url: "/computeMetadata/v1/instance/service-accounts/default/token", provider: "gcp"}},
		{"azure", "GET /metadata/instance?api-version=2021-02-01 HTTP/1.1\r\nMetadata: true\r\n\r\n", &imdsMessage{url: "/metadata/instance?api-version=2021-02-01", provider: "azure"}},
		{"oracle", "GET /opc/v2/instance/ HTTP/1.1\r\nAuthorization: Bearer Oracle\r\n\r\n", &imdsMessage{url: "/opc/v2/instance/", provider: "oracle"}},
		{"ibm", "PUT /instance_identity/v1/token HTTP/1.1\r\nMetadata-Flavor: ibm\r\n\r\n", &imdsMessage{url: "/instance_identity/v1/token", provider: "ibm"}},
		{"secret in the URL", "GET /x?token=AbCdEfGh1234&a=b HTTP/1.1\r\n\r\n", &imdsMessage{url: "/x?token=[redacted]&a=b"}},
		{"cut", "GET /latest/meta-da", &imdsMessage{url: "/latest/meta-da", provider: "aws"}},
		{"odd bytes", "GET /\x00\xff HTTP/1.1\r\nHost: a\x01b\r\n\r\n", &imdsMessage{url: "/??", host: "a?b"}},
		{"body alone", `{"AccessKeyId":"x"}`, nil},
		{"empty", "", nil},
		{"TLS", "\x16\x03\x01\x02\x00", nil},
		{"another version", "GET / HTTP/2\r\n\r\n", nil},
	} {
		got, ok := parseIMDS([]byte(x.in))
		if ok != (x.want != nil) {
			t.Errorf("%s: %v, %+v", x.name, ok, got)
			continue
		}
		if x.want != nil && strings.Contains(x.want.url, "[redacted]") {
			x.want.url = got.url // compared below
			if strings.Contains(got.url, "AbCdEfGh1234") || !strings.HasPrefix(got.url, "/x?token=") || !strings.HasSuffix(got.url, "&a=b") {
				t.Errorf("%s: %q", x.name, got.url)
			}
		}
		if diff := cmp.Diff(x.want, got, cmp.AllowUnexported(imdsMessage{})); diff != "" {
			t.Errorf("%s: %s", x.name, diff)
		}
	}
}

func FuzzParseIMDS(f *testing.F) {
	for _, s := range []string{imdsRequestText, imdsAnswerText, "GET / HTTP/1.1\r\n", "PUT /latest/api/token HTTP/1.1\r\n\r\n", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseIMDS(b)
		if ok != (m != nil) {
			t.Fatal("is of two minds")
		}
		if !ok {
			return
		}
		for _, s := range []string{m.url, m.host, m.userAgent, m.server, m.credential} {
			if len(s) > imdsMaxURL+1024 {
				t.Fatalf("%d bytes", len(s))
			}
			for i := range len(s) {
				if s[i] < ' ' {
					t.Fatalf("%q", s)
				}
			}
		}
	})
}

// TestSecretsStay holds that no token and no credential of a message to or
// from a metadata service is in its event.
func TestSecretsStay(t *testing.T) {
	d := newDecoder(nil)
	for _, text := range []string{imdsRequestText, imdsAnswerText} {
		rec, err := d.decode(samplePacket(procRecKindREC_IMDS, text, strings.HasPrefix(text, "GET"), 6, 0))
		if err != nil {
			t.Fatal(err)
		}
		r := &event.StreamRecord{Event: rec.ev}
		if b := event.AppendStreamRecord(nil, r); bytes.Contains(b, []byte("secretsecret")) || bytes.Contains(b, []byte("ASIA")) || bytes.Contains(b, []byte("tok\"")) {
			t.Errorf("%q", b)
		}
	}
}

// samplePacket is a record of a packet between 10.0.0.1:40000 and a server.
func samplePacket(kind procRecKind, payload string, egress bool, l4 uint8, seq uint32) []byte {
	var r packetRecPacket
	r.Hdr.Tgid, r.Hdr.Tid, r.Hdr.Ts, r.Hdr.Start = 7, 8, 1000, 500
	r.Cookie, r.Seq, r.Length, r.Size, r.Netns = 99, seq, uint32(len(payload)), uint32(len(payload)+28), 4026531840
	r.Family, r.L4, r.Sport, r.Dport = afInet, l4, 53, 40000
	copy(r.Saddr[:], []byte{10, 0, 0, 53})
	copy(r.Daddr[:], []byte{10, 0, 0, 1})
	r.Flags = uint8(packetRecPacketFlagRK_OWNED)
	if egress {
		r.Flags |= uint8(packetRecPacketFlagRK_EGRESS)
		r.Sport, r.Dport, r.Saddr, r.Daddr = r.Dport, r.Sport, r.Daddr, r.Saddr
	}
	copy(r.Ifname[:], []int8{'e', 't', 'h', '0'})
	r.Payload.Off, r.Payload.Len = uint16(unsafe.Sizeof(r)), uint16(len(payload))
	p := newPack(&r)
	p.b = append(p.b, payload...)
	return p.done(kind)
}

const afInet = 2

// packetSamples are records of packets, for the decoder's tests.
func packetSamples() map[string][]byte {
	q := dnsHead(1, 0x0100, 1, 0) + dnsQ
	a := dnsHead(1, 0x8180, 1, 1) + dnsQ + dnsPtr12 + dnsRR + "\x0a\x00\x00\x01"
	return map[string][]byte{
		"dns_query":     samplePacket(procRecKindREC_DNS, q, true, 17, 0),
		"dns_answer":    samplePacket(procRecKindREC_DNS, a, false, 17, 0),
		"dns_tcp":       samplePacket(procRecKindREC_DNS, "\x00\x21"+q+"\x00\x21"+q, true, 6, 5),
		"imds_request":  samplePacket(procRecKindREC_IMDS, imdsRequestText, true, 6, 0),
		"imds_response": samplePacket(procRecKindREC_IMDS, imdsAnswerText, false, 6, 0),
	}
}

func TestDecodePackets(t *testing.T) {
	d := newDecoder(nil)
	rec, err := d.decode(packetSamples()["dns_answer"])
	if err != nil {
		t.Fatal(err)
	}
	end := func(ip string, port uint32) event.Address {
		return event.Address{IP: netip.MustParseAddr(ip), Port: port, Family: 2}
	}
	want := &event.Event{
		Kind: event.KindDNS, BootNS: 1000, TimeNS: 1000, PID: 7, TID: 8, StartNS: 500,
		DNS: &event.DNS{
			ID: 1, QuestionName: "www.example.org", QuestionType: 1, QuestionClass: 1, QuestionSize: 21, QuestionCount: 1,
			IsResponse: true, Addresses: []string{"10.0.0.1"},
			Network: event.Headers{
				DeviceIfname: "eth0", DeviceNetns: 4026531840, L3Protocol: 0x800, L4Protocol: 17, NetworkDirection: directionIngress,
				Size: 77, Source: end("10.0.0.53", 53), Destination: end("10.0.0.1", 40000),
			},
		},
	}
	if diff := cmp.Diff(want, rec.ev, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	rec, err = d.decode(packetSamples()["dns_tcp"])
	if err != nil || rec.ev == nil || len(rec.more) != 1 || rec.part {
		t.Errorf("%v: %+v", err, rec)
	}
}

// TestSegments cuts messages into segments in every way into three.
func TestSegments(t *testing.T) {
	stream := "\x00\x05hello\x00\x00\x00\x03you\x00\x04last"
	want := []string{"hello", "you", "last"}
	for i := range len(stream) {
		for j := i; j <= len(stream); j++ {
			var ts tcpStreams
			var got []string
			message := func(b []byte) { got = append(got, string(b)) }
			seq := uint32(0xfffffffa) // wraps
			for _, part := range []string{stream[:i], stream[i:j], stream[j:]} {
				if part == "" {
					continue
				}
				ts.segment(tcpKey{1, true}, seq, []byte(part), len(part), message)
				ts.segment(tcpKey{1, true}, seq, []byte(part), len(part), message) // sent again
				seq += uint32(len(part))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("cut at %d and %d: %q", i, j, got)
			}
		}
	}
}

func TestSegmentsMissing(t *testing.T) {
	var ts tcpStreams
	var got []string
	message := func(b []byte) { got = append(got, string(b)) }
	key := tcpKey{1, false}
	// Of a message of 300 bytes 10 are kept; the next begins in the next segment.
	ts.segment(key, 0, []byte("\x01\x2c0123456789"), 302, message)
	ts.segment(key, 302, []byte("\x00\x02ab"), 4, message)
	// The end of a message and the beginning of the next are not kept.
	ts.segment(key, 306, []byte("\x00\x10cd"), 40, message)
	ts.segment(key, 346, []byte("\x00\x02ef"), 4, message)
	// A segment is missing.
	ts.segment(key, 400, []byte("\x00\x02gh"), 4, message)
	if want := []string{"0123456789", "ab", "cd", "ef", "gh"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for i := range uint64(10 * maxTCPStreams) {
		ts.segment(tcpKey{i + 2, true}, 0, []byte("\x00"), 1, message)
	}
	if len(ts.streams) > maxTCPStreams {
		t.Errorf("%d streams", len(ts.streams))
	}
	long := append([]byte("\xff\xff"), make([]byte, 70000)...)
	ts.segment(tcpKey{1, true}, 0, long, len(long), func(b []byte) {
		if len(b) > maxTCPMessage {
			t.Errorf("%d bytes are kept", len(b))
		}
	})
}

func FuzzSegments(f *testing.F) {
	f.Add([]byte("\x00\x05hello\x00\x03you"), uint8(3), uint16(9))
	f.Fuzz(func(t *testing.T, b []byte, step uint8, missing uint16) {
		var ts tcpStreams
		seq := uint32(0)
		for len(b) > 0 {
			n := min(int(step)+1, len(b))
			ts.segment(tcpKey{1, true}, seq, b[:n], n+int(missing), func(m []byte) {
				if len(m) > maxTCPMessage {
					t.Fatalf("%d bytes", len(m))
				}
			})
			seq += uint32(n) + uint32(missing)
			b = b[n:]
		}
	})
}

// TestPacketSeeds keeps seeds of the parsers' fuzzers checked in.
func TestPacketSeeds(t *testing.T) {
	for _, name := range []string{"FuzzParseDNS", "FuzzParseIMDS", "FuzzSegments"} {
		if found, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*")); err != nil || len(found) == 0 {
			t.Errorf("no seeds of %s: %v", name, err)
		}
	}
	if os.Getenv("UPDATE_SEEDS") == "" {
		return
	}
	write := func(fuzz, name, text string) {
		dir := filepath.Join("testdata", "fuzz", fuzz)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("go test fuzz v1\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, x := range dnsMessages() {
		write("FuzzParseDNS", strings.NewReplacer(" ", "_", ",", "").Replace(name), "[]byte("+quote([]byte(x.in))+")\n")
	}
	write("FuzzParseIMDS", "request", "[]byte("+quote([]byte(imdsRequestText))+")\n")
	write("FuzzParseIMDS", "answer", "[]byte("+quote([]byte(imdsAnswerText))+")\n")
	write("FuzzSegments", "three", "[]byte("+quote([]byte("\x00\x05hello\x00\x00\x00\x03you\x00\x04last"))+")\nbyte('\\x02')\nuint16(7)\n")
	for name, b := range packetSamples() {
		write("FuzzDecode", name, "[]byte("+quote(b)+")\n")
	}
}
