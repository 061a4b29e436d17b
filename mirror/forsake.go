package mirror

// This file is what becomes of a table whose changes cannot be applied any more: it is forsaken, together with the batch
// that met the first such change, and stays so, also after a crash, until DropTable makes it one of which nothing is known.

// isForsaken says whether the table is forsaken, by the batch or before it.
func (s *stage) isForsaken() bool {
	if s.state != nil {
		return s.state.Forsaken != ""
	}
	return s.t.state.Forsaken != ""
}

// forsake stages that the table is not followed any more.
func (s *stage) forsake(why error) {
	state := s.edit()
	state.Complete, state.Forsaken = false, why.Error()
	if state.Key == nil {
		state.Key = []string{} // so that Tables names it
	}
	s.m.forsook.Add(1)
	s.m.log.Warn("table not followed any more, it must be loaded again", "table", state.Name, "error", why)
}

// Forsook counts how often a table was forsaken since the mirror was opened.
func (m *Mirror) Forsook() uint64 { return m.forsook.Load() }

// Forsaken are the tables that are not followed any more, by OID, with the reason. It may wait for the batch under way.
func (m *Mirror) Forsaken() map[uint32]string {
	m.tablesMu.RLock()
	all := make([]*table, 0, len(m.tables))
	for _, t := range m.tables {
		all = append(all, t)
	}
	m.tablesMu.RUnlock()
	found := map[uint32]string{}
	for _, t := range all {
		if t.complete.Load() {
			continue
		}
		t.mu.Lock()
		if t.state.Forsaken != "" {
			found[t.oid] = t.state.Forsaken
		}
		t.mu.Unlock()
	}
	return found
}
