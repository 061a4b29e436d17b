package deadletter

import (
	"context"
	"fmt"
)

// What is done at once to many letters.
const (
	bulkLetters = 512
	bulkBytes   = 64 << 20 // of payloads, counted in whole pieces
)

// DiscardAll removes the letters that the filter chooses and which, when it is not nil, and says how many. each, when it is not nil, is
// called as it goes on. What an error leaves is there.
func (s *Store) DiscardAll(ctx context.Context, f Filter, which func(*Letter) bool, each func(n int)) (int, error) {
	return s.bulk(ctx, f, which, each, func(ids []string) (int, error) {
		gone, err := s.heads(ctx, ids)
		if err != nil {
			return 0, err
		}
		if err := s.write(ctx, gone, nil); err != nil {
			return 0, fmt.Errorf("discard %d dead letters: %w", len(gone), err)
		}
		for i := range gone {
			s.changes.add(Discarded, &gone[i])
		}
		return len(gone), nil
	})
}

// Move files the letters that the filter chooses, and which when it is not nil, under the name of another projector, and says how
// many. Beyond one machine, a crash may leave one under both.
func (s *Store) Move(ctx context.Context, f Filter, to string, which func(*Letter) bool) (int, error) {
	return s.bulk(ctx, f, which, nil, func(ids []string) (int, error) {
		var put []Letter
		for _, id := range ids {
			l, ok, err := s.Get(ctx, id)
			if err != nil {
				return 0, err
			}
			if ok {
				l.Projector, l.Pieces = to, Pieces{}
				l.ID = letterID(&l)
				put = append(put, l)
			}
		}
		gone, err := s.heads(ctx, ids)
		if err != nil {
			return 0, err
		}
		there := make([]string, len(put))
		for i := range put {
			there[i] = put[i].ID
		}
		replaced, err := s.heads(ctx, there)
		if err != nil {
			return 0, err
		}
		if err := s.write(ctx, append(gone, replaced...), put); err != nil {
			return 0, fmt.Errorf("move %d dead letters to %s: %w", len(put), to, err)
		}
		return len(put), nil
	})
}

// bulk does something to the letters that are chosen, so many at once while nobody else writes.
func (s *Store) bulk(ctx context.Context, f Filter, which func(*Letter) bool, each func(n int), do func(ids []string) (int, error)) (n int, err error) {
	var ids []string
	bytes := 0
	flush := func() error {
		if len(ids) == 0 {
			return nil
		}
		s.writing.Lock()
		done, err := do(ids)
		s.writing.Unlock()
		n += done
		ids, bytes = ids[:0], 0
		if each != nil && err == nil {
			each(n)
		}
		return err
	}
	err = s.List(ctx, f, func(l Letter) error {
		if which != nil && !which(&l) {
			return nil
		}
		ids = append(ids, l.ID)
		if bytes += (l.Pieces.Payload + l.Pieces.Event) * pieceBytes; len(ids) < bulkLetters && bytes < bulkBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return n, err
	}
	return n, flush()
}

// heads are the letters of those ids that are still there.
func (s *Store) heads(ctx context.Context, ids []string) ([]Letter, error) {
	var all []Letter
	for _, id := range ids {
		l, ok, err := s.head(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, l)
		}
	}
	return all, nil
}
