package lookup

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/go-bexpr/grammar"
)

// A filter is checked against the types of an entry's fields before it is used: the
// evaluator finds a mistake only at an entry that leads it there, and then excludes that
// entry without an error.

type fieldType string

const (
	textField      fieldType = "a text"
	numberField    fieldType = "a number"
	textListField  fieldType = "a list of texts"
	textMapField   fieldType = "a map of texts"
	numberMapField fieldType = "a map of numbers"
)

// filterFields are the types of the fields of [filterable].
var filterFields = map[string]fieldType{
	"service": textField, "id": textField, "node": textField, "address": textField, "zone": textField,
	"status": textField, "state": textField, "source": textField,
	"port": numberField, "weight": numberField, "slots": numberField,
	"tags": textListField, "meta": textMapField, "ports": numberMapField,
}

// checkFilter returns an error unless an expression over the fields is sound.
func checkFilter(expression any, fields map[string]fieldType) error {
	switch e := expression.(type) {
	case *grammar.UnaryExpression:
		return checkFilter(e.Operand, fields)
	case *grammar.BinaryExpression:
		if err := checkFilter(e.Left, fields); err != nil {
			return err
		}
		return checkFilter(e.Right, fields)
	case *grammar.MatchExpression:
		return checkMatch(e, fields)
	case *grammar.CollectionExpression:
		return checkCollection(e, fields)
	}
	return fmt.Errorf("%T is not supported", expression)
}

func checkMatch(m *grammar.MatchExpression, fields map[string]fieldType) error {
	field, err := selectField(m.Selector, fields)
	if err != nil {
		return err
	}
	collection := field == textListField || field == textMapField || field == numberMapField
	var fits bool
	switch m.Operator {
	case grammar.MatchEqual, grammar.MatchNotEqual:
		if field == numberField {
			if _, err := bexpr.CoerceInt64(m.Value.Raw); err != nil {
				return fmt.Errorf("%s is a number, and %q is none", m.Selector, m.Value.Raw)
			}
		}
		fits = !collection
	case grammar.MatchMatches, grammar.MatchNotMatches:
		if _, err := regexp.Compile(m.Value.Raw); err != nil {
			return fmt.Errorf("%q is not a regular expression: %s", m.Value.Raw, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		}
		fits = field == textField
	case grammar.MatchIsNil, grammar.MatchIsNotNil:
		fits = collection
	default: // in, contains, is empty
		fits = field != numberField
	}
	if !fits {
		return fmt.Errorf("%s is %s, which %q does not apply to", m.Selector, field, strings.ToLower(m.Operator.String()))
	}
	return nil
}

func selectField(selector grammar.Selector, fields map[string]fieldType) (fieldType, error) {
	if len(selector.Path) == 0 {
		return "", errors.New("a field is missing")
	}
	field, ok := fields[selector.Path[0]]
	if !ok {
		return "", fmt.Errorf("instances have no field %q; use %s", selector.Path[0], strings.Join(slices.Sorted(maps.Keys(filterFields)), ", "))
	}
	switch {
	case len(selector.Path) == 1:
		return field, nil
	case len(selector.Path) == 2 && field == textMapField:
		return textField, nil
	case len(selector.Path) == 2 && field == numberMapField:
		return numberField, nil
	}
	return "", fmt.Errorf("%s is %s and has nothing like %s", selector.Path[0], field, selector)
}

// checkCollection checks "any tags as t { … }", where t is a field of the inner
// expression.
func checkCollection(c *grammar.CollectionExpression, fields map[string]fieldType) error {
	field, err := selectField(c.Selector, fields)
	if err != nil {
		return err
	}
	key, value := textField, textField // of a map
	switch field {
	case textListField:
		key = numberField
	case numberMapField:
		value = numberField
	case textMapField:
	default:
		return fmt.Errorf("%s is %s, which any and all do not apply to", c.Selector, field)
	}
	if len(fields) > len(filterFields) {
		return errors.New("any and all do not nest") // each level multiplies the work
	}
	within := maps.Clone(fields)
	names := c.NameBinding
	for _, name := range []string{names.Default, names.Index, names.Value} {
		if _, taken := within[name]; taken {
			return fmt.Errorf("%q is a field; choose another name for the elements of %s", name, c.Selector)
		}
	}
	if names.Index != "" && names.Index == names.Value {
		return fmt.Errorf("%q cannot name both the key and the value of %s", names.Index, c.Selector)
	}
	within[names.Default], within[names.Index], within[names.Value] = textField, key, value
	delete(within, "") // of unbound names
	return checkFilter(c.Inner, within)
}
