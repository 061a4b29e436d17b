package projectors

// keySet remembers the keys that a round has composed, at most about limit of them: when there are more, the older half
// is forgotten. A forgotten key that comes again is composed again, to the same document.
type keySet struct {
	limit   int
	current map[string]struct{}
	older   map[string]struct{}
}

func newKeySet(limit int) keySet {
	return keySet{limit: limit, current: map[string]struct{}{}, older: map[string]struct{}{}}
}

// add remembers the key, which it copies, and says whether it was new.
func (s *keySet) add(key []byte) bool {
	if _, ok := s.current[string(key)]; ok {
		return false
	}
	if _, ok := s.older[string(key)]; ok {
		return false
	}
	if len(s.current) >= max(s.limit/2, 1) {
		s.older, s.current = s.current, s.older
		clear(s.current)
	}
	s.current[string(key)] = struct{}{}
	return true
}
