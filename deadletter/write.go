package deadletter

import (
	"context"
	"fmt"
	"strings"

	"github.com/lanternist/lanternist/control"
)

// write puts letters in the place of others. What does not change of one that stays is not written again.
//
// Where a crash may leave a part of the changes, it is one from which repair finds back: the entry is there whenever anything of a
// letter is, and the letter itself only when everything is.
func (s *Store) write(ctx context.Context, gone, put []Letter) error {
	if len(gone) == 0 && len(put) == 0 {
		return nil
	}
	was := map[string]Pieces{}
	for i := range gone {
		was[gone[i].ID] = gone[i].Pieces
	}
	var ops []control.Op
	stays := map[string]*Letter{}
	for i := range put {
		l := &put[i]
		stays[l.ID] = l
		e := entryOf(l)
		s.sketch.add(e.projector, e.digest, 1) // before it is there: nobody may think that there is none
		ops = append(ops, control.Op{Key: e.key(), Value: []byte{}})
		if before, ok := was[l.ID]; !ok || before != l.Pieces { // else it is as it was
			l.Pieces.Set = before.Set + 1
			ops = appendPieces(ops, l)
		}
		value, err := encode(l)
		if err != nil {
			return err
		}
		ops = append(ops, control.Op{Key: letterKey(l.ID), Value: value})
	}
	for i := range gone {
		var err error
		if ops, err = s.appendRemoval(ctx, ops, &gone[i], stays[gone[i].ID]); err != nil {
			return err
		}
	}
	if err := control.Apply(ctx, s.control, ops...); err != nil {
		for _, l := range append(gone, put...) {
			s.tallies.doubt(escape(l.Projector)) // it may have been done all the same
		}
		return err
	}
	for i := range gone {
		e := entryOf(&gone[i])
		s.sketch.add(e.projector, e.digest, -1)
		s.tallies.remove(e)
	}
	for i := range put {
		s.tallies.add(entryOf(&put[i]))
	}
	return nil
}

// appendRemoval adds what removes a letter, or what is old of one that stays.
func (s *Store) appendRemoval(ctx context.Context, ops []control.Op, l, stays *Letter) ([]control.Op, error) {
	if stays == nil {
		ops = append(ops, control.Op{Key: letterKey(l.ID), Delete: true})
	}
	if stays == nil || stays.Pieces.Set != l.Pieces.Set {
		keep := -1
		if stays != nil {
			keep = stays.Pieces.Set
		}
		var err error
		if ops, err = s.appendPiecesRemoval(ctx, ops, l, keep); err != nil {
			return nil, err
		}
	}
	if stays == nil || entryOf(stays) != entryOf(l) {
		ops = append(ops, control.Op{Key: entryOf(l).key(), Delete: true})
	}
	return ops, nil
}

// appendPiecesRemoval adds what removes all pieces of a letter but those of a set. In a store that does not make changes all at once
// there may be more of them than the letter says.
func (s *Store) appendPiecesRemoval(ctx context.Context, ops []control.Op, l *Letter, keep int) ([]control.Op, error) {
	if !control.AllOrNone(s.control) {
		for _, prefix := range []string{payloadPrefix, eventPrefix} {
			all := pieceKeys(prefix, l.ID)
			kept := fmt.Sprintf("%s%d/", all, keep)
			err := control.ListKeys(ctx, s.control, all, func(key string) error {
				if !strings.HasPrefix(key, kept) {
					ops = append(ops, control.Op{Key: key, Delete: true})
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		return ops, nil
	}
	for n := range l.Pieces.Payload {
		ops = append(ops, control.Op{Key: pieceKey(payloadPrefix, l.ID, l.Pieces.Set, n), Delete: true})
	}
	for n := range l.Pieces.Event {
		ops = append(ops, control.Op{Key: pieceKey(eventPrefix, l.ID, l.Pieces.Set, n), Delete: true})
	}
	return ops, nil
}

// appendPieces adds payload and event, under keys of their own.
func appendPieces(ops []control.Op, l *Letter) []control.Op {
	add := func(prefix string, data []byte) (n int) {
		for first := data != nil; first || len(data) > 0; first = false {
			size := min(len(data), pieceBytes)
			ops = append(ops, control.Op{Key: pieceKey(prefix, l.ID, l.Pieces.Set, n), Value: data[:size]})
			data = data[size:]
			n++
		}
		return n
	}
	l.Pieces.Payload = add(payloadPrefix, l.Payload)
	l.Pieces.Event = add(eventPrefix, l.Event)
	return ops
}

// pieces reads what was kept in pieces.
func (s *Store) pieces(ctx context.Context, prefix string, l *Letter, n int) (data []byte, err error) {
	for i := range n {
		piece, ok, err := s.control.Get(ctx, pieceKey(prefix, l.ID, l.Pieces.Set, i))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("piece %d of %d is missing", i, n)
		}
		if data == nil {
			data = piece
		} else {
			data = append(data, piece...)
		}
	}
	return data, nil
}

// repair finishes what a crash cut off in a store that does not make changes all at once: entries without a letter are removed,
// with what else there is of it.
func (s *Store) repair(ctx context.Context) error {
	if control.AllOrNone(s.control) {
		return nil
	}
	letters, entries := map[string]int{}, map[string]int{} // by projector
	err := control.ListKeys(ctx, s.control, letterPrefix, func(key string) error {
		projector, _, _ := strings.Cut(key[len(letterPrefix):], "/")
		letters[projector]++
		return nil
	})
	if err != nil {
		return err
	}
	err = control.ListKeys(ctx, s.control, documentPrefix, func(key string) error {
		projector, _, _ := strings.Cut(key[len(documentPrefix):], "/")
		entries[projector]++
		return nil
	})
	if err != nil {
		return err
	}
	for projector, n := range entries {
		if n != letters[projector] {
			if err := s.repairProjector(ctx, projector); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) repairProjector(ctx context.Context, projector string) error {
	return control.ListKeys(ctx, s.control, documentPrefix+projector+"/", func(key string) error {
		e, err := parseEntry(key)
		if err != nil {
			return err
		}
		l, ok, err := s.head(ctx, e.id())
		if err != nil || ok && entryOf(&l) == e {
			return err
		}
		var ops []control.Op
		if !ok {
			if ops, err = s.appendPiecesRemoval(ctx, nil, &Letter{ID: e.id()}, -1); err != nil {
				return err
			}
		}
		return control.Apply(ctx, s.control, append(ops, control.Op{Key: key, Delete: true})...)
	})
}
