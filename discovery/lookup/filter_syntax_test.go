package lookup

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"disc/discovery"
)

func TestFilterErrorsAreInPlainWords(t *testing.T) {
	foreign := regexp.MustCompile(`\d+:\d+ \(|no match found|strconv|error parsing|rule "`)
	for expression, want := range map[string]string{
		`a==`:              `filter "a==" ends too early; write comparisons such as`,
		`zone == a b`:      `cannot be understood from "b" on`,
		`zone = a`:         `cannot be understood from "= a" on`,
		`weight > 3`:       `cannot be understood from "> 3" on`,
		`ä == 1`:           `cannot be understood from "ä == 1" on`,
		`(zone == a`:       `has a parenthesis that is not closed`,
		`zone == "a`:       `has a quotation mark that is not closed`,
		`port == x`:        `port is a number, and "x" is none`,
		`zone matches "["`: `"[" is not a regular expression: missing closing ]`,
		"zone == \xff":     `filter`,
	} {
		t.Run(expression, func(t *testing.T) {
			_, err := ParseFilter(expression)
			if !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), want) || foreign.MatchString(err.Error()) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}
