package deadletter

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lanternist/lanternist/event"
)

// Waiting is the class of letters that were not refused: events that wait behind one of the same key that was.
const Waiting = "waiting"

// Letter is one document, or event, that a sink refused for good.
type Letter struct {
	// ID names the letter. Park derives it from the projector, the offset, the generation and the document, so
	// that parking the same thing again replaces the letter instead of adding one. It is safe in a URL path.
	ID         string       `json:"id"`
	Projector  string       `json:"projector"`
	View       string       `json:"view,omitempty"`
	Generation int          `json:"generation,omitempty"` // of the view; 0 when the projector has none
	DocumentID string       `json:"document_id"`          // or the id of the event
	Offset     event.Offset `json:"offset"`               // the version that was refused
	// Payload is what the sink was sent; nil for a deletion, and when it is larger than PayloadMaxBytes. Then
	// PayloadSize still tells its size, and the view, or the journal at Offset, can give it again. List leaves it out.
	Payload     []byte `json:"-"`
	PayloadSize int    `json:"payload_size"` // bytes; set by Park
	// Event is the event itself, of a stream that keeps it, of whatever size: the journal may have dropped it when the letter is
	// tried again. List leaves it out.
	Event []byte `json:"-"`
	// Keys are what the event concerns, of an ordered stream: later events of any of them wait.
	Keys []string `json:"keys,omitempty"`

	Reason   string    `json:"reason"`   // the sink's own words, at most ReasonMaxBytes of them
	Class    string    `json:"class"`    // of the error, as package projectors names it; or Waiting
	Attempts int       `json:"attempts"` // since it was parked first, of older versions of the document, too
	Time     time.Time `json:"time"`     // when it, or an older version of the document, was parked first; microseconds
	Last     time.Time `json:"last"`     // when it was refused last

	// Pieces says where payload and event are kept. Set by Park.
	Pieces Pieces `json:"pieces"`
}

// Pieces are what payload and event of a letter are divided into. A letter that is written again has new ones, so that it is never a
// mixture.
type Pieces struct {
	Set     int `json:"set"`
	Payload int `json:"payload,omitempty"` // how many
	Event   int `json:"event,omitempty"`
}

// Bounds on what is kept of a letter.
const (
	PayloadMaxBytes = 4 << 20
	ReasonMaxBytes  = 16 << 10
	// pieceBytes is how much of a payload is kept under one key: some homes of a control store take no more than 1 MiB.
	pieceBytes = 512 << 10
)

// bound leaves out what is over the bounds.
func (l *Letter) bound() {
	l.PayloadSize = len(l.Payload)
	if len(l.Payload) > PayloadMaxBytes {
		l.Payload = nil
	}
	l.Reason = clip(l.Reason, ReasonMaxBytes)
}

// clip is the beginning of a text.
func clip(text string, bytes int) string {
	if len(text) <= bytes {
		return text
	}
	return strings.ToValidUTF8(text[:bytes], "") + "…"
}

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

// digest stands for a document in keys and in the sketch.
func digest(documentID string) uint64 {
	sum := sha256.Sum256([]byte(documentID))
	return binary.BigEndian.Uint64(sum[:8])
}

// letterID is "<projector>.<offset, 16 hex digits>.<generation>.<digest of the document id>": letters sort by
// projector and offset, and the id stays short and plain whatever the document id contains.
func letterID(l *Letter) string {
	return escape(l.Projector) + "." + place(l.Offset, l.Generation, digest(l.DocumentID))
}

func encode(l *Letter) ([]byte, error) { return json.Marshal(l) }

func decode(id string, value []byte) (Letter, error) {
	var l Letter
	if err := json.Unmarshal(value, &l); err != nil {
		return Letter{}, fmt.Errorf("dead letter %q is damaged: %w", id, err)
	}
	return l, nil
}
