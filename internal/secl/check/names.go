package check

// ConstantNames returns the names of all constants of the language, sorted;
// true and false are not among them.
func ConstantNames() []string { return constantNames() }
