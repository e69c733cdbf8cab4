package sensor

import (
	"encoding/binary"
	"net/netip"
)

// What is read of one message at most. A message of 64 KiB can name thousands
// of records; pointers make names that are longer than the message.
const (
	dnsMaxName    = 255 // bytes on the wire, RFC 1035 section 2.3.4
	dnsMaxJumps   = 32
	dnsMaxRecords = 128
	dnsMaxAliases = 16
)

// Types and classes of records that matter here.
const (
	dnsTypeA     = 1
	dnsTypeCNAME = 5
	dnsTypeAAAA  = 28
	dnsClassIN   = 1
)

// A dnsMessage is what a DNS message says, as far as events tell it.
type dnsMessage struct {
	id        uint16
	response  bool
	code      int
	questions int
	name      string // asked for, without the last dot
	qtype     uint16
	qclass    uint16
	qsize     int // of the question in bytes
	// addresses are those of the name asked for, also by way of aliases.
	addresses []netip.Addr
}

// parseDNS reads a message, of which the end may be missing: b is what there
// is of it. It tells false when b is no message: too short, an operation other
// than a query, or a question that cannot be read. Whatever cannot be read
// after the question ends the addresses.
func parseDNS(b []byte) (*dnsMessage, bool) {
	if len(b) < 12 {
		return nil, false
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if flags>>11&15 != 0 {
		return nil, false // an update, a notification, or no DNS at all
	}
	m := &dnsMessage{
		id: binary.BigEndian.Uint16(b), response: flags&0x8000 != 0, code: int(flags & 15),
		questions: int(binary.BigEndian.Uint16(b[4:])),
	}
	answers := int(binary.BigEndian.Uint16(b[6:]))
	at := 12
	var asked string
	for i := range m.questions {
		if i == dnsMaxRecords {
			return nil, false
		}
		name, next, ok := dnsName(b, at)
		if !ok || next+4 > len(b) {
			if i == 0 {
				return nil, false
			}
			return m, true
		}
		if i == 0 {
			asked, m.name, m.qsize = name, dnsText(name), next+4-at
			m.qtype, m.qclass = binary.BigEndian.Uint16(b[next:]), binary.BigEndian.Uint16(b[next+2:])
		}
		at = next + 4
	}
	if m.questions == 0 && !m.response {
		return nil, false
	}
	if !m.response || m.questions != 1 {
		return m, true
	}
	// The names that the one asked for is an alias of. A server may give them
	// in any order, but gives an alias before what it stands for.
	names := []string{dnsFold(asked)}
	for i := range answers {
		if i == dnsMaxRecords {
			break
		}
		owner, next, ok := dnsName(b, at)
		if !ok || next+10 > len(b) {
			break
		}
		rtype, class := binary.BigEndian.Uint16(b[next:]), binary.BigEndian.Uint16(b[next+2:])
		data := next + 10
		at = data + int(binary.BigEndian.Uint16(b[next+8:]))
		if at > len(b) {
			break
		}
		if class != dnsClassIN || !dnsAmong(names, dnsFold(owner)) {
			continue
		}
		switch {
		case rtype == dnsTypeCNAME && len(names) < dnsMaxAliases:
			if alias, _, ok := dnsName(b, data); ok {
				names = append(names, dnsFold(alias))
			}
		case rtype == dnsTypeA && at-data == 4:
			m.addresses = append(m.addresses, netip.AddrFrom4([4]byte(b[data:at])))
		case rtype == dnsTypeAAAA && at-data == 16:
			m.addresses = append(m.addresses, netip.AddrFrom16([16]byte(b[data:at])))
		}
	}
	return m, true
}

func dnsAmong(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// dnsName reads a name at an offset: its labels as on the wire, each after its
// length, without the root; and where what follows it begins.
func dnsName(b []byte, at int) (name string, next int, ok bool) {
	var buf [dnsMaxName]byte
	n, jumps := 0, 0
	for {
		if at >= len(b) {
			return "", 0, false
		}
		c := int(b[at])
		switch c & 0xc0 {
		case 0:
			at++
			if c == 0 {
				if jumps == 0 {
					next = at
				}
				return string(buf[:n]), next, true
			}
			if at+c > len(b) || n+1+c > dnsMaxName-1 {
				return "", 0, false
			}
			buf[n] = byte(c)
			copy(buf[n+1:], b[at:at+c])
			n, at = n+1+c, at+c
		case 0xc0:
			if at+2 > len(b) || jumps == dnsMaxJumps {
				return "", 0, false
			}
			if jumps == 0 {
				next = at + 2
			}
			jumps++
			to := c&0x3f<<8 | int(b[at+1])
			if to >= at {
				return "", 0, false // names lie before what points at them
			}
			at = to
		default:
			return "", 0, false // reserved since RFC 6891
		}
	}
}

// dnsText is a name as people write it. What is not printable, and dots inside
// a label, are escaped as in master files (RFC 1035 section 5.1).
func dnsText(wire string) string {
	out := make([]byte, 0, len(wire))
	for at := 0; at < len(wire); {
		n := int(wire[at])
		if at > 0 {
			out = append(out, '.')
		}
		for _, c := range []byte(wire[at+1 : at+1+n]) {
			switch {
			case c == '.' || c == '\\':
				out = append(out, '\\', c)
			case c <= ' ' || c > '~':
				out = append(out, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			default:
				out = append(out, c)
			}
		}
		at += 1 + n
	}
	return string(out)
}

// dnsFold makes names comparable: case does not count in them.
func dnsFold(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for j, c := range b {
				if c >= 'A' && c <= 'Z' {
					b[j] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
