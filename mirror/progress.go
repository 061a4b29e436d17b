package mirror

import (
	"github.com/jackc/pglogrepl"

	"github.com/lanternist/lanternist/event"
)

// Progress says which transactions are in the mirror. It only ever shows whole ones.
type Progress struct {
	Offset event.Offset  // of the last event applied
	LSN    pglogrepl.LSN // every captured change committed before it has been applied
}

// Progress is how far the mirror is, and a channel that is closed when that changes. It never waits for the disk.
func (m *Mirror) Progress() (Progress, <-chan struct{}) {
	m.posMu.Lock()
	defer m.posMu.Unlock()
	return m.pos.progress, m.changed
}

// Advance says that nothing committed before lsn is missing: the source has named lsn as its end, and everything
// it sent before has been committed here. An lsn that is not ahead of the progress changes nothing; neither does
// one that comes inside a large transaction, whose end says more.
func (m *Mirror) Advance(lsn pglogrepl.LSN) {
	m.commit.Lock()
	defer m.commit.Unlock()
	if !m.pos.whole || lsn <= m.pos.progress.LSN {
		return
	}
	pos := m.pos
	pos.progress.LSN = lsn
	m.setPosition(pos)
}

// setPosition moves the mirror to a position, and wakes those who wait for the progress when it is a whole one. The caller holds
// commit.
func (m *Mirror) setPosition(pos position) {
	m.posMu.Lock()
	defer m.posMu.Unlock()
	m.pos = pos
	if pos.whole {
		close(m.changed)
		m.changed = make(chan struct{})
	}
}
