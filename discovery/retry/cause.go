package retry

import "context"

// CauseOf returns why a call failed: the cause of its context's end if ctx has ended,
// else err.
func CauseOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
