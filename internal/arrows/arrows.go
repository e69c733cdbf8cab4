// Package arrows holds no code, only the tests that keep the repository in
// shape: which package may know which, what the deterministic path must not
// touch, and that no file names the place where it was written.
package arrows
