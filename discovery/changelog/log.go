// Package changelog keeps the newest changes that an agent saw, in a bounded number of bytes.
//
//	l := changelog.New(1 << 20)
//	l.Add(changelog.Entry{Revision: 42, Seen: time.Now(), Service: "web", ID: "web-1", Kind: discovery.ChangeGone, Reason: discovery.ReasonLeft})
//	page := l.Read(changelog.Query{Service: "web"})
package changelog

import (
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"time"

	"disc/discovery"
)

// Sizes of chunks. A log consists of chunks, the oldest of which is dropped when there is no room.
const (
	chunksPerLog = 16
	firstChunk   = 4 << 10 // of a log that has just begun, so that one without changes costs little
)

// Log keeps the newest changes, encoded. It retains no memory of what they were made of. A nil Log
// keeps none. Its methods may be called by many goroutines at once.
type Log struct {
	size int    // most bytes of all chunks
	id   string // tells its cursors from those of other logs

	mu      sync.Mutex
	chunks  []chunk
	bytes   int             // allocated for chunks
	next    int64           // number of the next entry
	floor   *start          // from here on all entries are kept; nil: there were none yet
	gap     *lastGap        // the newest entry, if that is a gap
	watched map[string]bool // folded names of services of which changes come in now; "" is all
	changed chan struct{}   // closed at the next change; nil: nobody waits
}

// chunk is a part of the log. Its data grows at the end, so that readers may keep what they got.
type chunk struct {
	first, count int64  // number of the first entry, and of entries
	hollow       int64  // of them are empty
	data         []byte // the entries, each after its length
	last         start  // the position of the last entry
}

// lastGap is a gap at the end of the last chunk.
type lastGap struct {
	offset int
	since  time.Time
}

type start struct {
	revision int64
	seen     time.Time
	dropped  bool
}

// MinSize is the least number of bytes of a log.
const MinSize = 64 << 10

// New returns a log of at most so many bytes, at least [MinSize]; 0 or less: nil, which keeps nothing.
func New(size int64) *Log {
	if size <= 0 {
		return nil
	}
	return &Log{size: int(max(size, MinSize)), id: strings.ToLower(rand.Text()[:8]), next: 1, watched: map[string]bool{}}
}

// Add appends entries.
func (l *Log) Add(entries ...Entry) {
	if l == nil || len(entries) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		l.append(&entries[i])
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *Log) append(e *Entry) {
	since := e.Since
	if l.gap != nil && e.Kind == discovery.ChangeGap {
		since = l.gap.since
		l.removeGap()
	}
	encoded := e.encode(since)
	if l.floor == nil {
		l.floor = &start{revision: e.Revision, seen: e.Seen}
	}
	l.reserve(len(encoded))
	c := &l.chunks[len(l.chunks)-1]
	c.data = append(c.data, encoded...)
	c.count++
	c.last = start{e.Revision, e.Seen, true}
	l.next++
	l.gap = nil
	if e.Kind == discovery.ChangeGap {
		l.gap = &lastGap{len(c.data) - len(encoded), since}
	}
}

// removeGap makes the gap at the end an empty entry: the next one has taken it in. Readers may have
// the data, so that it is copied.
func (l *Log) removeGap() {
	c := &l.chunks[len(l.chunks)-1]
	data := make([]byte, l.gap.offset, cap(c.data))
	copy(data, c.data)
	c.data = append(data, 0)
	c.hollow++
}

// reserve makes room for n bytes in the last chunk, and drops chunks where the log is full.
func (l *Log) reserve(n int) {
	most := l.size / chunksPerLog
	if last := len(l.chunks) - 1; last >= 0 {
		c := &l.chunks[last]
		need := len(c.data) + n
		if need <= cap(c.data) {
			return
		}
		if need <= most { // only the first chunk grows
			grown := make([]byte, len(c.data), min(max(2*cap(c.data), need), most))
			l.bytes += cap(grown) - cap(c.data)
			copy(grown, c.data)
			c.data = grown
			l.drop()
			return
		}
	}
	size := max(most, n)
	if len(l.chunks) == 0 {
		size = max(min(firstChunk, most), n)
	}
	l.chunks = append(l.chunks, chunk{first: l.next, data: make([]byte, 0, size)})
	l.bytes += size
	l.drop()
}

// drop drops the oldest chunks until the others have room, but for the one that is written.
func (l *Log) drop() {
	for l.bytes > l.size && len(l.chunks) > 1 {
		oldest := &l.chunks[0]
		l.bytes -= cap(oldest.data)
		last := oldest.last
		l.floor = &last
		*oldest = chunk{}
		l.chunks = l.chunks[1:]
	}
}

// Size returns the bytes that the log has allocated, and the number of its entries.
func (l *Log) Size() (bytes int, entries int64) {
	if l == nil {
		return 0, 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.chunks) == 0 {
		return 0, 0
	}
	for _, c := range l.chunks {
		entries += c.count - c.hollow
	}
	return l.bytes, entries
}

// Changed returns a channel that is closed when something is added.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// cursor returns the position of an entry as readers see it.
func (l *Log) cursor(number int64) string { return strconv.FormatInt(number, 10) + "-" + l.id }

// number returns the number of the entry at a cursor. It returns false for one of another log.
func (l *Log) number(cursor string) (int64, bool) {
	digits, ok := strings.CutSuffix(cursor, "-"+l.id)
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil && n >= 0
}

// Watch adds that a service, or with "" every service, is watched from a revision on. It adds
// nothing where it was watched before.
func (l *Log) Watch(service string, revision int64, now time.Time) {
	if l == nil || l.Watches(service) {
		return
	}
	l.mu.Lock()
	l.watched[discovery.FoldName(service)] = true
	l.mu.Unlock()
	l.Add(Entry{Revision: revision, Seen: now, Service: service, Kind: discovery.ChangeWatched})
}

// Watches reports whether a service, or with "" every service, is watched.
func (l *Log) Watches(service string) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watched[""] || l.watched[discovery.FoldName(service)]
}

// Narrow adds that only some services are watched from a revision on, of those that known lists
// and of those that were watched by themselves.
func (l *Log) Narrow(watched map[string]bool, known []string, revision int64, now time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	all := l.watched[""]
	var dropped []string
	for service := range l.watched {
		if service != "" && !watched[service] {
			dropped = append(dropped, service)
		}
	}
	if all {
		dropped = append(dropped, known...)
	}
	l.watched = watched
	l.mu.Unlock()
	done := map[string]bool{}
	var entries []Entry
	for _, service := range dropped {
		if folded := discovery.FoldName(service); !watched[folded] && !done[folded] {
			done[folded] = true
			entries = append(entries, Entry{Revision: revision, Seen: now, Service: service, Kind: discovery.ChangeUnwatched})
		}
	}
	l.Add(entries...)
}
