package web

// ContentSecurityPolicy is what the page runs under: its own scripts, styles,
// fonts and calls, nothing inline, nothing from elsewhere, in no frame.
const ContentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
