package match

// IsPlain tells whether a regular expression is a search for strings.
func IsPlain(m Matcher) bool {
	r, ok := m.(*Regexp)
	return ok && r.plain != nil
}
