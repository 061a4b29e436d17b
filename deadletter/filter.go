package deadletter

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Filter chooses letters. Its zero value chooses all; every field that is set must match.
type Filter struct {
	ID         string
	Projector  string
	View       string
	DocumentID string
	Class      string
	Reason     string    // text that the reason has somewhere, in upper or lower case
	Since      time.Time // parked then or later
	Until      time.Time // parked then or before
	After      string    // the id of the last letter already seen
	Limit      int       // at most so many; 0 is no limit
}

// All says that the filter chooses every letter.
func (f Filter) All() bool {
	f.After, f.Limit = "", 0
	return f == Filter{}
}

// Validate says what is wrong with the filter.
func (f Filter) Validate() error {
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		return fmt.Errorf("no letter was parked since %s and until %s: the one is after the other", f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339))
	}
	if f.ID != "" {
		if _, _, ok := split(f.ID); !ok {
			return fmt.Errorf("%q is no id of a dead letter", f.ID)
		}
	}
	if f.After != "" {
		if _, _, ok := split(f.After); !ok {
			return fmt.Errorf("%q is no id of a dead letter", f.After)
		}
	}
	if f.Limit < 0 {
		return errors.New("the limit is negative")
	}
	return nil
}

// Matches says whether the filter chooses a letter, wherever it is in the list.
func (f *Filter) Matches(l *Letter) bool {
	return (f.ID == "" || f.ID == l.ID) &&
		(f.Projector == "" || f.Projector == l.Projector) &&
		(f.View == "" || f.View == l.View) &&
		(f.DocumentID == "" || f.DocumentID == l.DocumentID) &&
		(f.Class == "" || f.Class == l.Class) &&
		(f.Reason == "" || strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason))) &&
		(f.Since.IsZero() || !l.Time.Before(f.Since)) &&
		(f.Until.IsZero() || !l.Time.After(f.Until))
}

// prefix begins the keys of all letters that the filter can choose.
func (f *Filter) prefix() string {
	switch {
	case f.ID != "":
		return letterKey(f.ID)
	case f.Projector != "":
		return letterPrefix + escape(f.Projector) + "/"
	}
	return letterPrefix
}
