package deadletter

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lanternist/lanternist/control"
	"github.com/lanternist/lanternist/event"
)

// formerPrefix is where letters were kept before, each with its payload in one value, under their ids.
const formerPrefix = "deadletters/"

// former is a letter as it was kept there.
type former struct {
	ID         string       `json:"id"`
	Projector  string       `json:"projector"`
	View       string       `json:"view"`
	Generation int          `json:"generation"`
	DocumentID string       `json:"document_id"`
	Offset     event.Offset `json:"offset"`
	Payload    []byte       `json:"payload"`
	Size       int          `json:"payload_size"`
	Reason     string       `json:"reason"`
	Class      string       `json:"class"`
	Attempts   int          `json:"attempts"`
	Time       time.Time    `json:"time"`
}

// migrate moves letters from where they were kept before. What a crash cuts off is done by the next Open.
func (s *Store) migrate(ctx context.Context) error {
	var ops, deletes []control.Op
	bytes := 0
	flush := func() error {
		err := control.Apply(ctx, s.control, append(ops, deletes...)...)
		ops, deletes, bytes = ops[:0], deletes[:0], 0
		return err
	}
	err := s.control.List(ctx, formerPrefix, func(key string, value []byte) error {
		var f former
		if err := json.Unmarshal(value, &f); err != nil {
			return fmt.Errorf("dead letter %q is damaged: %w", key[len(formerPrefix):], err)
		}
		l := Letter{
			Projector: f.Projector, View: f.View, Generation: f.Generation, DocumentID: f.DocumentID, Offset: f.Offset, Payload: f.Payload,
			Reason: f.Reason, Class: f.Class, Attempts: f.Attempts, Time: microseconds(f.Time), Last: microseconds(f.Time),
		}
		l.bound()
		l.ID, l.PayloadSize, l.Pieces = letterID(&l), f.Size, Pieces{Set: 1}
		ops = append(ops, control.Op{Key: entryOf(&l).key(), Value: []byte{}})
		ops = appendPieces(ops, &l)
		head, err := encode(&l)
		if err != nil {
			return err
		}
		ops = append(ops, control.Op{Key: letterKey(l.ID), Value: head})
		deletes = append(deletes, control.Op{Key: key, Delete: true})
		if bytes += len(f.Payload); len(deletes) < bulkLetters && bytes < bulkBytes/4 {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
