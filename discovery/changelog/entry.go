package changelog

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"disc/discovery"
)

// Bounds of an entry. What is longer is cut, and the entry says so.
const (
	maxFields = 40
	maxValue  = 256 // bytes of a value, and of a detail
	maxName   = 512 // bytes of the name of a service, and of an id
)

// Entry is a change to add to a log.
type Entry struct {
	Revision int64
	Seen     time.Time
	Service  string
	ID       string
	Kind     discovery.ChangeKind
	Reason   discovery.ChangeReason
	Detail   string    // what the reason is about, such as a node or the failing checks
	Listed   bool      // see [discovery.Change.Listed]
	Cut      bool      // see [discovery.Change.Cut]
	Since    time.Time // of a gap
	Fields   []discovery.FieldChange
}

// kinds and reasons are encoded as their index here. They live in memory alone.
var (
	kinds = []discovery.ChangeKind{
		discovery.ChangeAdded, discovery.ChangeChanged, discovery.ChangeGone, discovery.ChangeSuspect, discovery.ChangeReturned,
		discovery.ChangeWatched, discovery.ChangeUnwatched, discovery.ChangeGap, discovery.ChangeStartedOver,
	}
	reasons = []discovery.ChangeReason{
		"", discovery.ReasonRegistered, discovery.ReasonStatic, discovery.ReasonLeft, discovery.ReasonExpired, discovery.ReasonRemoved,
		discovery.ReasonUnreadable, discovery.ReasonMassLoss, discovery.ReasonCheck, discovery.ReasonOverride, discovery.ReasonRestart,
		discovery.ReasonMoved, discovery.ReasonEdited, discovery.ReasonNotFound,
	}
)

// Flags of an encoded entry.
const (
	flagListed = 1 << iota
	flagCut
)

// encode returns the entry as the log keeps it: its length, and then its parts. gap is since when a
// gap lasts.
func (e *Entry) encode(gap time.Time) []byte {
	fields, cut := e.Fields, e.Cut
	if len(fields) > maxFields {
		fields, cut = fields[:maxFields], true
	}
	text := func(s string, most int) string {
		short := shorten(s, most)
		cut = cut || short != s
		return short
	}
	b := make([]byte, 0, 256)
	b = appendText(b, text(e.Service, maxName))
	b = appendText(b, text(e.ID, maxName))
	b = appendText(b, text(e.Detail, maxValue))
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, f := range fields {
		b = appendText(b, text(f.Field, maxValue))
		b = appendText(b, text(f.From, maxValue))
		b = appendText(b, text(f.To, maxValue))
	}
	var flags byte
	if e.Listed {
		flags |= flagListed
	}
	if cut {
		flags |= flagCut
	}
	head := []byte{byte(slices.Index(kinds, e.Kind)), byte(slices.Index(reasons, e.Reason)), flags}
	head = binary.AppendVarint(head, e.Revision)
	head = binary.AppendVarint(head, e.Seen.UnixMilli())
	since := int64(0)
	if !gap.IsZero() {
		since = gap.UnixMilli()
	}
	head = binary.AppendVarint(head, since)
	whole := binary.AppendUvarint(make([]byte, 0, len(head)+len(b)+4), uint64(len(head)+len(b)))
	return append(append(whole, head...), b...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// shorten returns a text of at most so many bytes, without half a character at its end.
func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// decoder reads encoded entries one after the other.
type decoder struct{ data []byte }

// next returns the parts of the next entry.
func (d *decoder) next() (parts, bool) {
	n, size := binary.Uvarint(d.data)
	if size <= 0 || uint64(len(d.data)-size) < n {
		return parts{}, false
	}
	p := parts{d.data[size : size+int(n)]}
	d.data = d.data[size+int(n):]
	return p, true
}

// parts is an encoded entry without its length.
type parts struct{ data []byte }

func (p *parts) byte() byte {
	b := p.data[0]
	p.data = p.data[1:]
	return b
}

func (p *parts) number() int64 {
	n, size := binary.Varint(p.data)
	p.data = p.data[size:]
	return n
}

func (p *parts) bytes() []byte {
	n, size := binary.Uvarint(p.data)
	b := p.data[size : size+int(n)]
	p.data = p.data[size+int(n):]
	return b
}

// header reads all but what is long: enough to choose among entries without decoding each whole.
func (p *parts) header(e *Entry) (service, id []byte) {
	e.Kind, e.Reason = kinds[p.byte()], reasons[p.byte()]
	flags := p.byte()
	e.Listed, e.Cut = flags&flagListed != 0, flags&flagCut != 0
	e.Revision, e.Seen = p.number(), time.UnixMilli(p.number()).UTC()
	if since := p.number(); since != 0 {
		e.Since = time.UnixMilli(since).UTC()
	}
	return p.bytes(), p.bytes()
}

// rest reads what follows the header.
func (p *parts) rest(e *Entry) {
	e.Detail = string(p.bytes())
	n, size := binary.Uvarint(p.data)
	p.data = p.data[size:]
	for range n {
		e.Fields = append(e.Fields, discovery.FieldChange{Field: string(p.bytes()), From: string(p.bytes()), To: string(p.bytes())})
	}
}

// ErrCursor reports a cursor that is not one of the log.
var ErrCursor = errors.New("the cursor is of an earlier run of the agent, or of another agent")
