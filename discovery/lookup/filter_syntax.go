package lookup

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// syntaxError is an error of the grammar: the line, the column and, from 0, the byte, then
// what is wrong there.
var syntaxError = regexp.MustCompile(`^\d+:\d+ \((\d+)\): (?:rule "[^"]*": )?(.*)`)

// explainSyntax says in plain words why an expression cannot be parsed.
func explainSyntax(expression string, err error) string {
	const advice = `; write comparisons such as zone == "a" and "v2" in tags`
	m := syntaxError.FindStringSubmatch(err.Error())
	if m == nil {
		return "cannot be parsed" + advice
	}
	at, _ := strconv.Atoi(m[1])
	rest := expression[min(at, len(expression)):]
	switch {
	case strings.HasPrefix(m[2], "Unmatched parentheses"):
		return "has a parenthesis that is not closed"
	case strings.HasPrefix(m[2], "Unterminated string literal"):
		return "has a quotation mark that is not closed"
	case rest == "":
		return "ends too early" + advice
	}
	return fmt.Sprintf("cannot be understood from %q on%s", rest, advice)
}
