package retry

import (
	"context"
	"errors"
	"strings"
)

// CauseOf returns why a call failed: the cause of its context's end if ctx has ended,
// else err.
func CauseOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// PlainText returns the text of an error. Where a line of it ends in the end of a context, it
// says so in plain words. Texts that the error only quotes stay as they are.
func PlainText(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for end, plain := range map[error]string{context.Canceled: "interrupted", context.DeadlineExceeded: "no answer in time"} {
		for n, line := range lines {
			before, found := strings.CutSuffix(line, end.Error())
			if found && (before == "" || strings.HasSuffix(before, ": ")) && errors.Is(err, end) {
				lines[n] = before + plain
			}
		}
	}
	return strings.Join(lines, "\n")
}
