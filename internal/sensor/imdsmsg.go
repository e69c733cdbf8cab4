package sensor

import (
	"bytes"
	"strings"

	"github.com/clewsec/clew/internal/sensor/scrub"
)

// What is kept of a message to or from a metadata service.
const (
	imdsMaxLines = 64
	imdsMaxURL   = 1024
	imdsMaxText  = 256
)

// An imdsMessage is what the head of a message to or from a cloud's metadata
// service says. Tokens and credentials are looked for, never kept.
type imdsMessage struct {
	response   bool
	url, host  string
	userAgent  string
	server     string
	provider   string
	token      bool   // carries a session token, or asks for one
	credential string // type of the credentials in the body
}

var httpMethods = []string{"GET", "PUT", "HEAD", "POST", "OPTIONS", "DELETE", "PATCH"}

// parseIMDS reads the beginning of an HTTP message. It tells false when b does
// not begin one.
func parseIMDS(b []byte) (*imdsMessage, bool) {
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	line := string(bytes.TrimSuffix(first, []byte("\r")))
	m := new(imdsMessage)
	var method string
	if after, ok := strings.CutPrefix(line, "HTTP/1."); ok {
		if len(after) < 5 || after[1] != ' ' {
			return nil, false
		}
		m.response = true
	} else {
		var target string
		var ok bool
		method, target, ok = strings.Cut(line, " ")
		if !ok || !among(httpMethods, method) {
			return nil, false
		}
		target, version, ok := strings.Cut(target, " ")
		if target == "" || ok && !strings.HasPrefix(version, "HTTP/1.") {
			return nil, false
		}
		m.url = imdsURL(target)
	}
	azure, google, oracle, ibm := false, false, false, false
	for range imdsMaxLines {
		first, rest, _ = bytes.Cut(rest, []byte("\n"))
		line := string(bytes.TrimSuffix(first, []byte("\r")))
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			break
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "host":
			m.host = imdsText(value)
		case "user-agent":
			m.userAgent = imdsText(value)
		case "server":
			m.server = imdsText(value)
		case "x-aws-ec2-metadata-token":
			m.token = true
			m.provider = "aws"
		case "x-aws-ec2-metadata-token-ttl-seconds":
			m.provider = "aws"
		case "metadata-flavor":
			google = google || strings.EqualFold(value, "google")
			ibm = ibm || strings.EqualFold(value, "ibm")
		case "metadata":
			azure = azure || strings.EqualFold(value, "true")
		case "authorization":
			oracle = oracle || strings.EqualFold(value, "bearer oracle")
		}
	}
	path, _, _ := strings.Cut(m.url, "?")
	server := strings.ToLower(m.server)
	switch {
	case m.provider != "":
	case google, strings.HasPrefix(path, "/computeMetadata/"), strings.HasPrefix(server, "metadata server for vm"):
		m.provider = "gcp"
	case oracle, strings.HasPrefix(path, "/opc/"):
		m.provider = "oracle"
	case ibm, strings.HasPrefix(path, "/instance_identity/"):
		m.provider = "ibm"
	case azure, strings.HasPrefix(path, "/metadata/"):
		m.provider = "azure"
	case strings.HasPrefix(path, "/latest/"), strings.HasPrefix(server, "ec2ws"):
		m.provider = "aws"
	}
	if m.provider == "aws" && method == "PUT" && path == "/latest/api/token" {
		m.token = true
	}
	if m.response {
		m.credential = imdsCredential(rest)
		if m.credential != "" && m.provider == "" {
			m.provider = "aws"
		}
	}
	return m, true
}

func among(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func imdsText(s string) string {
	return scrub.Text(printable(s, imdsMaxText))
}

// imdsURL is a request's target without what looks like a secret in it.
func imdsURL(s string) string {
	return scrub.Text(printable(s, imdsMaxURL))
}

// printable cuts a text and replaces what is no printable ASCII.
func printable(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if b[j] < ' ' || b[j] > '~' {
					b[j] = '?'
				}
			}
			return string(b)
		}
	}
	return s
}

// imdsCredential finds the type of the credentials that a body holds: the
// value of "Type" beside an "AccessKeyId". Nothing else of it is looked at.
func imdsCredential(body []byte) string {
	if !bytes.Contains(body, []byte(`"AccessKeyId"`)) {
		return ""
	}
	_, after, ok := bytes.Cut(body, []byte(`"Type"`))
	if !ok {
		return ""
	}
	after = bytes.TrimLeft(after, " \t\r\n")
	if len(after) == 0 || after[0] != ':' {
		return ""
	}
	after = bytes.TrimLeft(after[1:], " \t\r\n")
	if len(after) == 0 || after[0] != '"' {
		return ""
	}
	n := bytes.IndexByte(after[1:], '"')
	if n < 0 || n > 32 {
		return ""
	}
	value := after[1 : 1+n]
	for _, c := range value {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_') {
			return ""
		}
	}
	return string(value)
}
