package projectors

// piece is a bounded list of documents to compose and write: root keys, and ids of documents to delete that are no key
// of the view. It copies what it is given into memory that it keeps.
type piece struct {
	limit   int
	keys    []byte
	ends    []int // of each key in keys
	foreign []string
}

// addKey adds a key and says whether the piece is full.
func (p *piece) addKey(key []byte) bool {
	p.keys = append(p.keys, key...)
	p.ends = append(p.ends, len(p.keys))
	return p.full()
}

// addForeign adds the id of a document to delete and says whether the piece is full.
func (p *piece) addForeign(id string) bool {
	p.foreign = append(p.foreign, id)
	return p.full()
}

func (p *piece) empty() bool { return len(p.ends)+len(p.foreign) == 0 }

func (p *piece) full() bool { return len(p.ends)+len(p.foreign) >= p.limit }

// key is the i-th key.
func (p *piece) key(i int) []byte {
	from := 0
	if i > 0 {
		from = p.ends[i-1]
	}
	return p.keys[from:p.ends[i]:p.ends[i]]
}

func (p *piece) reset() {
	clear(p.foreign)
	p.keys, p.ends, p.foreign = p.keys[:0], p.ends[:0], p.foreign[:0]
}
