package event

import (
	"encoding/json"
	"fmt"
	"time"
)

// GapPrefix is the Prefix of every Gap.
const GapPrefix = "lanternist.gap"

// GapInfo is what a Gap says: that somebody accepted that changes are missing in the journal, and which. The tables were loaded
// anew after it, so what readers of views see is right; who follows events has missed some, and finds the rows as they are now
// in the source.
type GapInfo struct {
	Reasons  []string  `json:"reasons"`           // codes: "slot-lost", …
	What     []string  `json:"what"`              // the same as sentences, with their ranges
	From     string    `json:"from"`              // position up to which the journal has everything; "0/0" when nothing was known
	To       string    `json:"to"`                // position from which it has everything again
	Epoch    string    `json:"epoch"`             // of To
	Before   string    `json:"epoch_before"`      // of From; "" when not known
	Journal  string    `json:"journal,omitempty"` // the journal that came before, when this one was begun anew
	Accepted time.Time `json:"accepted"`
}

// NewGap is an event without its transaction.
func NewGap(info GapInfo) (Event, error) {
	content, err := json.Marshal(info)
	if err != nil {
		return Event{}, fmt.Errorf("encode gap: %w", err)
	}
	return Event{Op: Gap, Prefix: GapPrefix, Content: content}, nil
}

// GapOf is what a Gap says.
func GapOf(e *Event) (info GapInfo, err error) {
	if e.Op != Gap {
		return info, fmt.Errorf("event %s is no gap but %s", e.Offset, e.Op)
	}
	if err := json.Unmarshal(e.Content, &info); err != nil {
		return info, fmt.Errorf("decode gap %s: %w", e.Offset, err)
	}
	return info, nil
}
