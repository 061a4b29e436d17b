package deadletter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lanternist/lanternist/event"
)

// Letter is one document, or event, that a sink refused for good.
type Letter struct {
	// ID names the letter. Park derives it from the projector, the offset, the generation and the document, so
	// that parking the same thing again replaces the letter instead of adding one. It is safe in a URL path.
	ID         string       `json:"id"`
	Projector  string       `json:"projector"`
	View       string       `json:"view,omitempty"`
	Generation int          `json:"generation,omitempty"` // of the view; 0 when the projector has none
	DocumentID string       `json:"document_id"`          // or the key of the event
	Offset     event.Offset `json:"offset"`               // the version that was refused
	// Payload is what the sink was sent; nil for a deletion, and when it is larger than PayloadMaxBytes. Then
	// PayloadSize still tells its size, and the view, or the journal at Offset, can give it again.
	Payload     []byte `json:"payload,omitempty"`
	PayloadSize int    `json:"payload_size"` // bytes; set by Park

	Reason   string    `json:"reason"` // the sink's own words, at most ReasonMaxBytes of them
	Class    string    `json:"class"`  // of the error, as package projectors names it
	Attempts int       `json:"attempts"`
	Time     time.Time `json:"time"` // when it was parked
}

// Bounds on what is kept of a letter. Base64 and the other fields must fit into control.MaxValue.
const (
	PayloadMaxBytes = 4 << 20
	ReasonMaxBytes  = 16 << 10
)

// bound leaves out what is over the bounds.
func (l *Letter) bound() {
	l.PayloadSize = len(l.Payload)
	if len(l.Payload) > PayloadMaxBytes {
		l.Payload = nil
	}
	if len(l.Reason) > ReasonMaxBytes {
		l.Reason = strings.ToValidUTF8(l.Reason[:ReasonMaxBytes], "") + "…"
	}
}

// keyPrefix is where the letters are in the control store; a letter's key is keyPrefix + ID.
const keyPrefix = "deadletters/"

// validate checks what Park needs of a letter.
func (l *Letter) validate() error {
	switch {
	case l.Projector == "":
		return errors.New("letter without a projector")
	case l.DocumentID == "":
		return errors.New("letter without a document id")
	}
	return nil
}

// letterID is "<projector>.<offset, 16 hex digits>.<generation>.<digest of the document id>": letters sort by
// projector and offset, and the id stays short and plain whatever the document id contains.
func letterID(l *Letter) string {
	digest := sha256.Sum256([]byte(l.DocumentID))
	return fmt.Sprintf("%s%016x.%d.%s", projectorPrefix(l.Projector), uint64(l.Offset), l.Generation, hex.EncodeToString(digest[:8]))
}

// projectorPrefix begins the ids of all letters of a projector and of no other: dots end it, so dots in the name
// are escaped, as is every character that a key of a control store or a URL path may not have.
func projectorPrefix(projector string) string {
	var b strings.Builder
	for i := range len(projector) {
		c := projector[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	b.WriteByte('.')
	return b.String()
}

func encode(l *Letter) ([]byte, error) { return json.Marshal(l) }

func decode(key string, value []byte) (Letter, error) {
	var l Letter
	if err := json.Unmarshal(value, &l); err != nil {
		return Letter{}, fmt.Errorf("dead letter %q: %w", strings.TrimPrefix(key, keyPrefix), err)
	}
	return l, nil
}
