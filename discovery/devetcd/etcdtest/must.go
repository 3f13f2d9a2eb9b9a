package etcdtest

// Must returns v, and panics if err is not nil: for what cannot fail in a test, such as a
// constructor that is given no metrics to register.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
