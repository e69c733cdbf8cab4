// Package scrub takes secrets out of command lines and environments before
// they leave the process that read them. It knows the shapes in which programs
// are given secrets, not the secrets: what it misses is a password given in a
// place where nothing says so. The same input always gives the same output.
package scrub

import (
	"slices"
	"strings"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secretWords are the last words of option and variable names whose value is a
// secret, compared without case, dashes and underscores.
var secretWords = []string{
	"password", "passwd", "passphrase", "pass", "pwd", "secret", "secretkey", "secretaccesskey", "token", "apikey",
	"accesskey", "authkey", "privatekey", "credential", "credentials", "sessiontoken", "clientsecret", "bearer",
	"apitoken", "authtoken", "accesstoken", "passcode", "encryptionkey", "sharedsecret", "connectionstring",
}

// notSecret are names that end in a secret word and hold none.
var notSecret = map[string]bool{
	"bypass": true, "compass": true, "nopassword": true, "askpass": true, "sshaskpass": true, "gitaskpass": true,
	"sudoaskpass": true, "nopasswd": true, "pwd": true, "oldpwd": true,
}

// shortPassword are programs whose -p takes a password glued to it.
var shortPassword = map[string]bool{
	"mysql": true, "mysqldump": true, "mysqladmin": true, "mysqlimport": true, "mariadb": true, "mariadb-dump": true,
	"mariadb-admin": true, "mysqlcheck": true, "mysqlshow": true,
}

// shortOption are programs and the one-letter options whose next argument is a secret.
var shortOption = map[string]string{
	"sshpass": "p", "redis-cli": "a", "ldapsearch": "w", "ldapadd": "w", "ldapmodify": "w", "curl": "u",
	"mongo": "p", "mongosh": "p", "mongodump": "p",
}

// tokenPrefixes begin tokens that are recognisable by themselves, with the
// least length of what follows.
var tokenPrefixes = []struct {
	prefix string
	least  int
}{
	{"AKIA", 16}, {"ASIA", 16}, {"ghp_", 30}, {"gho_", 30}, {"ghs_", 30}, {"ghu_", 30}, {"github_pat_", 30},
	{"glpat-", 16}, {"xoxb-", 16}, {"xoxp-", 16}, {"xoxa-", 16}, {"sk_live_", 16}, {"sk-ant-", 16}, {"AIza", 30},
	{"eyJhbGciOi", 20}, {"npm_", 30}, {"dop_v1_", 30}, {"hvs.", 20},
}

// Args scrubs a command line. It returns args itself when nothing is secret,
// else a copy.
func Args(args []string) []string {
	if len(args) == 0 {
		return args
	}
	program := args[0][strings.LastIndexByte(args[0], '/')+1:]
	var out []string
	set := func(i int, s string) {
		if s == args[i] {
			return
		}
		if out == nil {
			out = append(make([]string, 0, len(args)), args...)
		}
		out[i] = s
	}
	for i := 1; i < len(args); i++ {
		a := args[i]
		if a == "" {
			continue
		}
		if a[0] == '-' {
			name, value, glued := strings.Cut(strings.TrimLeft(a, "-"), "=")
			// -psecret may be -p with a value: one dash needs the whole word
			long := len(a) > 2 && (glued || a[1] == '-' || slices.Contains(secretWords, fold(name)))
			switch {
			case shortPassword[program] && strings.HasPrefix(a, "-p") && len(a) > 2:
				set(i, "-p"+Redacted)
				continue
			case long && secretName(name):
				if glued {
					if value != "" {
						set(i, a[:len(a)-len(value)]+Redacted)
					}
				} else if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
					i++
					set(i, Redacted)
				}
				continue
			case !glued && len(a) >= 2 && a[1] != '-' && shortOption[program] != "" && a[1:2] == shortOption[program]:
				if len(a) > 2 {
					set(i, a[:2]+secretPart(program, a[2:]))
				} else if i+1 < len(args) {
					i++
					set(i, secretPart(program, args[i]))
				}
				continue
			}
		}
		set(i, Text(a))
	}
	if out == nil {
		return args
	}
	return out
}

// secretPart scrubs the value of a secret short option; curl's names a user first.
func secretPart(program, v string) string {
	if program == "curl" {
		user, pass, ok := strings.Cut(v, ":")
		if !ok || pass == "" {
			return v
		}
		return user + ":" + Redacted
	}
	return Redacted
}

// secretName tells whether a name, as of an option or a variable, says that its
// value is a secret.
func secretName(name string) bool {
	if len(name) > 64 {
		return false
	}
	n := fold(name)
	if notSecret[n] {
		return false
	}
	for _, w := range secretWords {
		if strings.HasSuffix(n, w) {
			return true
		}
	}
	return false
}

// fold is a name in lower case without dashes, underscores and dots.
func fold(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '-' || c == '_' || c == '.':
		case c >= 'A' && c <= 'Z':
			b.WriteByte(c + 'a' - 'A')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Env scrubs one NAME=value.
func Env(s string) string {
	name, value, ok := strings.Cut(s, "=")
	if !ok || value == "" {
		return s
	}
	if secretName(name) {
		return name + "=" + Redacted
	}
	if t := Text(value); t != value {
		return name + "=" + t
	}
	return s
}

// Text scrubs a piece of text: URLs with a password, authorization headers,
// assignments to secret names, and tokens of known shape. Without any of
// these it returns s itself.
func Text(s string) string {
	if !strings.ContainsAny(s, ":=_-.AaESn") {
		return s
	}
	s = urls(s)
	s = headers(s)
	s = assignments(s)
	return tokens(s)
}

// urls scrubs scheme://user:password@host.
func urls(s string) string {
	from := 0
	for {
		i := strings.Index(s[from:], "://")
		if i < 0 {
			return s
		}
		i += from + 3
		end := i
		for end < len(s) && !isSpace(s[end]) && s[end] != '/' && s[end] != '?' && s[end] != '#' && s[end] != '"' && s[end] != '\'' {
			end++
		}
		at := strings.LastIndexByte(s[i:end], '@')
		if at >= 0 {
			if colon := strings.IndexByte(s[i:i+at], ':'); colon >= 0 && colon+1 < at {
				s = s[:i+colon+1] + Redacted + s[i+at:]
				end = i + colon + 1 + len(Redacted)
			}
		}
		from = end
	}
}

// headerNames begin header lines whose value is a secret.
var headerNames = []string{
	"authorization:", "proxy-authorization:", "x-api-key:", "x-auth-token:", "x-vault-token:", "private-token:", "cookie:",
	"x-aws-ec2-metadata-token:",
}

// headers scrubs "Authorization: Bearer …" and its like up to the end of the
// line or of a quotation.
func headers(s string) string {
	if strings.IndexByte(s, ':') < 0 {
		return s
	}
	low := lower(s)
	for _, h := range headerNames {
		for from := 0; ; {
			i := strings.Index(low[from:], h)
			if i < 0 {
				break
			}
			i += from + len(h)
			v := i
			for v < len(s) && s[v] == ' ' {
				v++
			}
			for _, scheme := range []string{"bearer ", "basic ", "digest ", "token ", "negotiate "} {
				if strings.HasPrefix(low[v:], scheme) {
					v += len(scheme)
					break
				}
			}
			end := v
			for end < len(s) && s[end] != '"' && s[end] != '\'' && s[end] != '\n' && s[end] != '\r' {
				end++
			}
			if end == v {
				from = i
				continue
			}
			s = s[:v] + Redacted + s[end:]
			low = lower(s)
			from = v + len(Redacted)
		}
	}
	return s
}

// assignments scrubs name=value and "name": "value" where the name is that of
// a secret.
func assignments(s string) string {
	for from := 0; from < len(s); {
		i := strings.IndexAny(s[from:], "=:")
		if i < 0 {
			return s
		}
		i += from
		from = i + 1
		nameEnd := i
		quote := byte(0)
		if nameEnd > 0 && (s[nameEnd-1] == '"' || s[nameEnd-1] == '\'') {
			nameEnd--
			quote = s[nameEnd]
		}
		nameAt := nameEnd
		for nameAt > 0 && isName(s[nameAt-1]) {
			nameAt--
		}
		if s[i] == ':' && quote == 0 {
			continue // a colon alone is too common: hosts, times, images
		}
		if nameAt == nameEnd || !secretName(s[nameAt:nameEnd]) {
			continue
		}
		v := i + 1
		for v < len(s) && s[v] == ' ' && s[i] == ':' {
			v++
		}
		stop := " \t\n&;,|"
		if v < len(s) && (s[v] == '"' || s[v] == '\'') {
			stop = s[v : v+1]
			v++
		}
		end := v
		for end < len(s) && strings.IndexByte(stop, s[end]) < 0 {
			end++
		}
		if end == v || strings.HasPrefix(s[v:], Redacted) || s[v] == '$' {
			continue // empty, done already, or the name of a variable
		}
		s = s[:v] + Redacted + s[end:]
		from = v + len(Redacted)
	}
	return s
}

// tokens scrubs words that begin like a known kind of token and are long enough.
func tokens(s string) string {
	for _, t := range tokenPrefixes {
		for from := 0; ; {
			i := strings.Index(s[from:], t.prefix)
			if i < 0 {
				break
			}
			i += from
			end := i + len(t.prefix)
			for end < len(s) && isToken(s[end]) {
				end++
			}
			if end-i-len(t.prefix) < t.least || i > 0 && isToken(s[i-1]) {
				from = i + len(t.prefix)
				continue
			}
			s = s[:i] + Redacted + s[end:]
			from = i + len(Redacted)
		}
	}
	return s
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

func isToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}
