package search

import (
	"container/list"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// cursor is where a page ended. Readers get it as opaque text.
type cursor struct {
	PIT      string          `json:"p"`
	After    json.RawMessage `json:"a"` // sort values of the last hit
	Query    []byte          `json:"q"` // fingerprint of what was asked
	Total    int64           `json:"t"`
	Relation string          `json:"r"`
	// Definition is the hash of the definition by which the first page was searched.
	Definition string `json:"d,omitempty"`
}

const cursorBytesMax = 64 << 10

func (c cursor) encode() (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

func base64Cursor(text string) ([]byte, error) {
	if at := strings.IndexAny(text, "\r\n"); at >= 0 { // which the decoder leaves out
		return nil, base64.CorruptInputError(at)
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}

// readCursor reads what is in a cursor, and checks none of it.
func readCursor(text string) (c cursor, err error) {
	if len(text) > cursorBytesMax {
		return c, fmt.Errorf("%w: cursor is too long", ErrBadQuery)
	}
	raw, err := base64Cursor(text)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	return c, err
}

// decodeCursor reads a cursor and checks that it belongs to the query.
func decodeCursor(text string, p *plan) (cursor, error) {
	var c cursor
	if len(text) > cursorBytesMax {
		return c, fmt.Errorf("%w: cursor is too long", ErrBadQuery)
	}
	raw, err := base64Cursor(text)
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	var after []any
	if err == nil {
		err = json.Unmarshal(c.After, &after)
	}
	if err != nil || c.PIT == "" || len(after) == 0 {
		return c, fmt.Errorf("%w: cursor is not one that was returned here", ErrBadQuery)
	}
	if !slices.Equal(c.Query, p.fingerprint()) {
		return c, fmt.Errorf("%w: cursor belongs to another query: repeat q, filter and sort of the first page", ErrBadQuery)
	}
	return c, nil
}

// fingerprint names what decides which hits there are, and their order.
func (p *plan) fingerprint() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%q\n", strings.TrimSpace(p.query.Text))
	for _, f := range p.query.Filters {
		fmt.Fprintf(&b, "%q %d %t %q\n", f.Field, f.Op, f.Not, f.Values)
	}
	for _, s := range p.query.Sort {
		fmt.Fprintf(&b, "%q %t\n", s.Field, s.Descending)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return sum[:12]
}

// cursorSet knows the points in time that this process holds open for cursors, so that there are never too many.
type cursorSet struct {
	mu    sync.Mutex
	max   int
	order *list.List // of string: the one used longest ago first
	place map[string]*list.Element
}

func newCursorSet(most int) *cursorSet {
	return &cursorSet{max: most, order: list.New(), place: map[string]*list.Element{}}
}

// use tells that the point in time before is now called after ("" for one that was opened, "" for one that was closed), and
// returns what must be closed to make room.
func (s *cursorSet) use(before, after string) (evicted []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.place[before]; ok {
		s.order.Remove(e)
		delete(s.place, before)
	}
	if after == "" {
		return nil
	}
	if e, ok := s.place[after]; ok {
		s.order.MoveToBack(e)
	} else {
		s.place[after] = s.order.PushBack(after)
	}
	for s.order.Len() > s.max {
		oldest, _ := s.order.Remove(s.order.Front()).(string)
		delete(s.place, oldest)
		evicted = append(evicted, oldest)
	}
	return evicted
}

// drain forgets all and returns them.
func (s *cursorSet) drain() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for e := s.order.Front(); e != nil; e = e.Next() {
		if id, ok := e.Value.(string); ok {
			ids = append(ids, id)
		}
	}
	s.order.Init()
	clear(s.place)
	return ids
}
