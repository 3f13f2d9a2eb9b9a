package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"

	"disc/discovery"
)

// column is one column of a table.
type column[T any] struct {
	header string
	wide   bool // only with -o wide
	value  func(T) string
}

// printsTable reports whether -o asks for text for people, not for a program.
func (a *app) printsTable() bool {
	return a.config.CLI.Output == "table" || a.config.CLI.Output == "wide"
}

// listing is the output of a command: a list, or one item.
type listing[T any] struct {
	items   []T
	single  bool // JSON and YAML have the one item instead of an array
	columns []column[T]
	line    string         // replaces the table
	name    func(T) string // for -o name
	addr    func(T) string // for -o addr; nil: the items have no address
}

// show prints a listing in the format of -o.
func show[T any](a *app, l listing[T]) error {
	format, argument, _ := strings.Cut(a.config.CLI.Output, "=")
	switch format {
	case "json":
		return l.json(a.io.Out)
	case "jsonl":
		return l.jsonLines(a.io.Out)
	case "yaml":
		return l.yaml(a.io.Out)
	case "name":
		return l.lines(a.io.Out, l.name)
	case "addr":
		if l.addr == nil {
			return usage(errors.New("-o addr: this output has no addresses"))
		}
		return l.lines(a.io.Out, l.addr)
	case "template":
		return l.template(a.io.Out, argument)
	case "file_sd":
		return usage(errors.New("-o file_sd is for 'disc export'"))
	}
	if l.line != "" {
		_, err := fmt.Fprintln(a.io.Out, l.line)
		return err
	}
	return l.table(a.io, format == "wide")
}

func (l listing[T]) value() any {
	if l.single && len(l.items) == 1 {
		return l.items[0]
	}
	if l.items == nil {
		return []T{}
	}
	return l.items
}

func (l listing[T]) json(w io.Writer) error { return writeJSON(w, l.value(), "  ") }

func (l listing[T]) jsonLines(w io.Writer) error {
	for _, item := range l.items {
		if err := writeJSON(w, item, ""); err != nil {
			return err
		}
	}
	return nil
}

// writeJSON writes a value on one line, or on several with an indent.
func writeJSON(w io.Writer, value any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", indent)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return err
	}
	_, err := w.Write(escapeControls(b.Bytes()))
	return err
}

// yaml writes the fields of the JSON in the same order.
func (l listing[T]) yaml(w io.Writer) error {
	b, err := json.Marshal(l.value())
	if err != nil {
		return err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(escapeControls(b), &node); err != nil { // JSON is YAML, but for controls
		return err
	}
	unquote(&node)
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(&node), e.Close()); err != nil {
		return err
	}
	_, err = w.Write(escapeControls(out.Bytes()))
	return err
}

// unquote removes JSON's style from a node, so that it is encoded as plain YAML. It quotes a text
// with characters that escapeControls escapes: only quoted texts have escapes.
func unquote(n *yaml.Node) {
	n.Style = 0
	if strings.ContainsFunc(n.Value, func(r rune) bool { return r >= 0x7f && discovery.IsControl(r) }) {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, c := range n.Content {
		unquote(c)
	}
}

func (l listing[T]) lines(w io.Writer, text func(T) string) error {
	for _, item := range l.items {
		if _, err := fmt.Fprintln(w, printable(text(item))); err != nil {
			return err
		}
	}
	return nil
}

// template executes a Go template for each item, with the fields of its JSON.
func (l listing[T]) template(w io.Writer, text string) error {
	t, err := template.New("-o template").Option("missingkey=error").Parse(text)
	if err != nil {
		return usage(err)
	}
	for _, item := range l.items {
		b, err := json.Marshal(item)
		if err != nil {
			return err
		}
		var fields any
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(&fields); err != nil {
			return err
		}
		var line strings.Builder
		if err := t.Execute(&line, fields); err != nil {
			return usage(err)
		}
		fmt.Fprintln(w, printableText(line.String()))
	}
	return nil
}

func (l listing[T]) table(out *IO, wide bool) error {
	rows := make([][]string, len(l.items))
	for n, item := range l.items {
		rows[n] = l.row(item, wide)
	}
	return (&tableWriter{out: out}).write(l.header(wide), rows)
}

// header returns the first row of a table.
func (l listing[T]) header(wide bool) (row []string) {
	for _, c := range l.columns {
		if !c.wide || wide {
			row = append(row, c.header)
		}
	}
	return row
}

// row returns the row of an item in a table.
func (l listing[T]) row(item T, wide bool) (row []string) {
	for _, c := range l.columns {
		if !c.wide || wide {
			row = append(row, cell(c.value(item)))
		}
	}
	return row
}

// cell formats a value for a table.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

// writeRows aligns rows in columns, two spaces apart. It adds colours, which do not count
// for the width.
func writeRows(out *IO, rows [][]string) error { return (&tableWriter{out: out}).align(rows) }

// tableWriter writes the rows of a table that goes on.
type tableWriter struct {
	out   *IO
	wide  bool  // with -o wide
	width []int // of the columns so far
	begun bool  // the header is written
}

// write writes rows in the columns of those before them, and the header before the first.
func (t *tableWriter) write(header []string, rows [][]string) error {
	if len(rows) == 0 {
		return nil
	}
	if !t.begun {
		rows = slices.Insert(rows, 0, header)
	}
	t.begun = true
	return t.align(rows)
}

func (t *tableWriter) align(rows [][]string) error {
	for _, row := range rows {
		for n, text := range row {
			if n == len(t.width) {
				t.width = append(t.width, 0)
			}
			t.width[n] = max(t.width[n], displayWidth(text))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for n, text := range row {
			line.WriteString(t.out.paint(text))
			if n < len(row)-1 {
				line.WriteString(strings.Repeat(" ", t.width[n]-displayWidth(text)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(t.out.Out, b.String())
	return err
}

// countOf returns a number with its noun, in the singular or plural.
func countOf(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
