package journal

// Recent returns the batch of a sequence when it is among those in memory, which all readers share.
func (j *Journal) Recent(sequence uint64) (*Batch, bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return nil, false
	}
	return j.recent.batch(sequence)
}

// Memory is about how many bytes the batch takes.
func (b *Batch) Memory() int64 { return b.memory }
