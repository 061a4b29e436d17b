package deadletter

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lanternist/lanternist/event"
)

// The keys of the control store. PROJECTOR is escaped, PLACE is "<offset>.<generation>.<digest>", all but the generation in 16
// hexadecimal digits.
//
//	letters/document/PROJECTOR/<digest>/<offset>.<generation>.<class>.<time>    nothing: that there is a letter
//	letters/letter/PROJECTOR/PLACE                                              the letter as JSON, without what is below
//	letters/payload/PROJECTOR/PLACE/<set>/<piece>                               its payload
//	letters/event/PROJECTOR/PLACE/<set>/<piece>                                 its event
const (
	documentPrefix = "letters/document/"
	letterPrefix   = "letters/letter/"
	payloadPrefix  = "letters/payload/"
	eventPrefix    = "letters/event/"
)

// escape writes a name so that it may be between slashes and dots: they end it, so they are escaped, as is every character that a
// key of a control store or a URL path may not have.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// unescape is the name that was escaped.
func unescape(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '=' {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", fmt.Errorf("%q is not an escaped name", text)
		}
		c, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is not an escaped name: %w", text, err)
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), nil
}

// place is where a letter is among those of its projector.
func place(offset event.Offset, generation int, digest uint64) string {
	return fmt.Sprintf("%016x.%d.%016x", uint64(offset), generation, digest)
}

// split divides a letter's id into the escaped projector and the place; false when it is no id.
func split(id string) (projector, at string, ok bool) {
	projector, at, ok = strings.Cut(id, ".")
	return projector, at, ok && projector != "" && strings.Count(at, ".") == 2 && !strings.Contains(id, "/")
}

// letterKey is where the letter of an id is; "" when it is no id.
func letterKey(id string) string {
	projector, at, ok := split(id)
	if !ok {
		return ""
	}
	return letterPrefix + projector + "/" + at
}

// pieceKeys begins the keys of all pieces of a letter's payload or event.
func pieceKeys(prefix, id string) string {
	projector, at, _ := split(id)
	return prefix + projector + "/" + at + "/"
}

// pieceKey is where a piece of a letter's payload or event is.
func pieceKey(prefix, id string, set, n int) string {
	return fmt.Sprintf("%s%d/%04d", pieceKeys(prefix, id), set, n)
}

// entry is what the key says that tells of a letter of a document.
type entry struct {
	projector  string // escaped
	digest     uint64
	offset     event.Offset
	generation int
	class      string // escaped
	time       int64  // microseconds
}

func entryOf(l *Letter) entry {
	return entry{escape(l.Projector), digest(l.DocumentID), l.Offset, l.Generation, escape(l.Class), l.Time.UnixMicro()}
}

func (e entry) id() string { return e.projector + "." + place(e.offset, e.generation, e.digest) }

// key is the entry's own.
func (e entry) key() string {
	return fmt.Sprintf("%s%016x.%d.%s.%016x", documentKeys(e.projector, e.digest), uint64(e.offset), e.generation, e.class, uint64(e.time))
}

// documentKeys begins the keys of all letters of a document, of an escaped projector.
func documentKeys(projector string, digest uint64) string {
	return fmt.Sprintf("%s%s/%016x/", documentPrefix, projector, digest)
}

// parseEntry reads the key of an entry.
func parseEntry(key string) (e entry, err error) {
	rest, _ := strings.CutPrefix(key, documentPrefix)
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return e, fmt.Errorf("%q is no key of a dead letter", key)
	}
	fields := strings.Split(parts[2], ".")
	if len(fields) != 4 {
		return e, fmt.Errorf("%q is no key of a dead letter", key)
	}
	e.projector, e.class = parts[0], fields[2]
	for _, number := range []struct {
		text string
		base int
		set  func(uint64)
	}{
		{parts[1], 16, func(n uint64) { e.digest = n }}, {fields[0], 16, func(n uint64) { e.offset = event.Offset(n) }},
		{fields[1], 10, func(n uint64) { e.generation = int(n) }}, {fields[3], 16, func(n uint64) { e.time = int64(n) }},
	} {
		n, err := strconv.ParseUint(number.text, number.base, 64)
		if err != nil {
			return e, fmt.Errorf("%q is no key of a dead letter: %w", key, err)
		}
		number.set(n)
	}
	return e, nil
}

// microseconds is a time as entries have it.
func microseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
