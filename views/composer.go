package views

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// DefaultMaxDocument bounds a document, in bytes: what Elasticsearch takes in one request by default, less some room.
const DefaultMaxDocument = 96 << 20

// keepMemory is how much of the memory for bodies, and of that for one document's rows, is kept for reuse.
const keepMemory = 8 << 20

// ErrIncomplete is wrapped by the error of Compose when a value is not known in the mirror yet. That is only so
// while a table is being loaded, when no view may be composed from it.
var ErrIncomplete = errors.New("value is not known in the mirror yet")

// Composer composes documents of one view. It reuses its memory and is not safe for concurrent use.
type Composer struct {
	view     *View
	max      int
	snapshot *mirror.Snapshot
	failure  error // of the mirror, met inside an expression

	bodies  []byte // of the documents since Reset, one after the other
	lookups []string

	// Memory for one document. Slices of it stay valid when it grows: what is written is not written again.
	arena     []byte      // texts of the rows' values
	values    []row.Value // of the instances, by slot
	instances []instance
	joins     []joined
	wanted    [][]byte // encoded values of a link table's rows
	row       []row.Value
	text      []byte
	seek      []byte

	// What onRow works for. A composer has one reading under way at a time.
	reading  *object
	prefix   []byte
	filter   *program
	linkDown *access // set while a link table is read: take the values it seeks by
	visit    func(key []byte, rec mirror.Record) error
	start    int // of the document under way, in bodies
}

// Composer returns a new composer for the view, with DefaultMaxDocument as its limit.
func (v *View) Composer() *Composer {
	c := &Composer{view: v, max: DefaultMaxDocument}
	c.visit = c.onRow
	return c
}

// Limit sets how many bytes a document, and the values it is made of, may have. Beyond, Compose returns ErrTooLarge.
func (c *Composer) Limit(bytes int) { c.max = bytes }

// Reset gives the memory of all documents composed so far back to the composer.
func (c *Composer) Reset() {
	if cap(c.bodies) > keepMemory {
		c.bodies = nil
	}
	c.bodies = c.bodies[:0]
	clear(c.lookups)
	c.lookups = c.lookups[:0]
}

// Compose is the document of a root row as of the snapshot. A root row that is not there, or that the view's
// where excludes, gives a document without a Body. An error that wraps ErrEvaluate or ErrTooLarge is the
// document's own and permanent until its rows change; the Document then still has its Key and ID. Any other error
// is the mirror's.
func (c *Composer) Compose(s *mirror.Snapshot, rootKey []byte) (Document, error) {
	c.begin(s)
	defer c.end()
	doc := Document{Key: c.keep(rootKey), ID: c.view.ID(rootKey), Lookups: c.keepStrings(len(c.view.lookups))}
	root := c.view.root
	rec, found, err := s.Get(root.schema.OID, rootKey)
	if err != nil {
		return doc, fmt.Errorf("read %s %s: %w", root.schema.QualifiedName(), doc.ID, err)
	}
	if !found {
		return doc, nil
	}
	in, err := c.newInstance(root, rec)
	if err != nil {
		return doc, fmt.Errorf("view %s, document %s: %w", c.view.name, doc.ID, err)
	}
	from := len(c.bodies)
	kept, err := c.document(in, &doc)
	if err != nil || !kept {
		c.bodies = c.bodies[:from]
		doc.Body = nil
		clear(doc.Lookups)
	}
	if err != nil {
		return doc, fmt.Errorf("view %s, document %s: %w", c.view.name, doc.ID, err)
	}
	return doc, nil
}

// document writes body and lookups. It is false when the view's filter excludes the document.
func (c *Composer) document(in *instance, doc *Document) (bool, error) {
	if c.view.where != nil {
		ok, err := c.view.where.holds(in)
		if err != nil || !ok {
			return false, err
		}
	}
	from := len(c.bodies)
	c.start = from
	body, err := in.appendObject(c.bodies)
	if err == nil {
		err = c.checkSize(len(body))
	}
	if err != nil {
		return false, err
	}
	c.bodies = body
	doc.Body = body[from:len(body):len(body)]
	for i := range c.view.lookups {
		if doc.Lookups[i], err = c.view.lookups[i].value(in); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *Composer) begin(s *mirror.Snapshot) {
	c.snapshot, c.failure = s, nil
	if cap(c.arena) > keepMemory || cap(c.instances)*instanceBytes > keepMemory {
		*c = Composer{view: c.view, max: c.max, snapshot: s, bodies: c.bodies, lookups: c.lookups}
		c.visit = c.onRow
	}
	c.arena, c.values, c.wanted = c.arena[:0], c.values[:0], c.wanted[:0]
	c.instances, c.joins = c.instances[:0], c.joins[:0]
}

func (c *Composer) end() { c.snapshot = nil }

// keep copies a key into the memory of the documents.
func (c *Composer) keep(b []byte) []byte {
	from := len(c.bodies)
	c.bodies = append(c.bodies, b...)
	return c.bodies[from:len(c.bodies):len(c.bodies)]
}

func (c *Composer) keepStrings(n int) []string {
	if n == 0 {
		return nil
	}
	from := len(c.lookups)
	for range n {
		c.lookups = append(c.lookups, "")
	}
	return c.lookups[from : from+n : from+n]
}

// checkSize is called with the length of bodies, the document under way included.
func (c *Composer) checkSize(length int) error {
	if length-c.start > c.max {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, c.max)
	}
	return nil
}

// newJoined is fresh memory for the joins of an instance.
func (c *Composer) newJoined(n int) []joined {
	from := len(c.joins)
	for range n {
		c.joins = append(c.joins, joined{})
	}
	return c.joins[from : from+n : from+n]
}

// newInstance copies the used columns of a record.
func (c *Composer) newInstance(o *object, rec mirror.Record) (*instance, error) {
	if err := o.fits(rec.Schema); err != nil {
		return nil, err
	}
	c.row = rec.Row.Values(c.row[:0])
	from := len(c.values)
	c.values = o.appendSlots(c.values, c.row, rec.Schema)
	values := c.values[from:len(c.values):len(c.values)]
	for i := range values {
		switch values[i].Kind {
		case row.Unchanged:
			return nil, fmt.Errorf("%w: column %s of %s", ErrIncomplete, o.slots[i].name, o.schema.QualifiedName())
		case row.Text:
			at := len(c.arena)
			c.arena = append(c.arena, values[i].Text...)
			values[i].Text = c.arena[at:len(c.arena):len(c.arena)]
		}
	}
	if bound := 2*c.max + minRows; len(c.arena)+len(c.values)*valueBytes+len(c.instances)*instanceBytes > bound {
		return nil, fmt.Errorf("%w: it is made of more than %d bytes of rows", ErrTooLarge, bound)
	}
	c.instances = append(c.instances, instance{object: o, values: values, composer: c})
	return &c.instances[len(c.instances)-1], nil
}

// minRows is how many bytes of rows a document may be made of, whatever its limit.
const minRows = 64 << 10

// instanceBytes and valueBytes are roughly what an instance and each of its values cost, beside their texts.
const (
	instanceBytes = 96
	valueBytes    = 32
)

// gather reads the rows of a join for an instance, filtered and in order.
func (c *Composer) gather(in *instance, j *join) ([]instance, error) {
	from := len(c.instances)
	c.filter = j.where
	var err error
	if j.link == nil {
		err = c.read(j.target, in.values)
	} else {
		err = c.readThrough(j, in.values)
	}
	c.filter = nil
	if err != nil {
		return nil, err
	}
	rows := c.instances[from:len(c.instances):len(c.instances)]
	if len(rows) > 1 {
		slices.SortFunc(rows, func(a, b instance) int { return compareRows(a.values, b.values, j.order) })
	}
	return rows, nil
}

// readThrough reads the rows of a join through a link table. A row that several links lead to is there once.
func (c *Composer) readThrough(j *join, values []row.Value) error {
	from := len(c.wanted)
	filter := c.filter
	c.linkDown, c.filter = &j.target.down, nil
	err := c.read(j.link, values)
	c.linkDown, c.filter = nil, filter
	if err != nil {
		return err
	}
	wanted := c.wanted[from:]
	slices.SortFunc(wanted, bytes.Compare)
	for i, key := range wanted {
		if i > 0 && bytes.Equal(key, wanted[i-1]) {
			continue
		}
		if err := c.fetch(j.target, key); err != nil {
			return err
		}
	}
	c.wanted = c.wanted[:from]
	return nil
}

// read reads the rows of o that belong to a parent row.
func (c *Composer) read(o *object, parent []row.Value) error {
	var ok bool
	if c.seek, ok = o.down.appendValues(c.seek[:0], parent); !ok {
		return nil
	}
	return c.fetch(o, c.seek)
}

// fetch reads the rows of o by encoded values; each goes to onRow.
func (c *Composer) fetch(o *object, values []byte) error {
	c.reading, c.prefix = o, values
	err := readAccess(c.snapshot, &o.down, values, c.visit)
	if err != nil && !errors.Is(err, ErrEvaluate) && !errors.Is(err, ErrTooLarge) {
		return fmt.Errorf("read %s: %w", o.schema.QualifiedName(), err)
	}
	return err
}

// readAccess visits the records that an access finds.
func readAccess(s *mirror.Snapshot, a *access, values []byte, visit func([]byte, mirror.Record) error) error {
	switch a.kind {
	case byKey:
		rec, found, err := s.Get(a.index.OID, values)
		if err != nil || !found {
			return err
		}
		return visit(values, rec)
	case byPrefix:
		return s.Scan(a.index.OID, values, visit)
	}
	return s.Lookup(a.index, values, visit)
}

// onRow takes one record of the object being read.
func (c *Composer) onRow(key []byte, rec mirror.Record) error {
	o := c.reading
	if o.down.kind == byPrefix && !bytes.HasPrefix(key, c.prefix) {
		return mirror.ErrStop
	}
	if c.linkDown != nil {
		return c.onLink(rec)
	}
	instances, values, arena := len(c.instances), len(c.values), len(c.arena)
	in, err := c.newInstance(o, rec)
	if err != nil || c.filter == nil {
		return err
	}
	ok, err := c.filter.holds(in)
	if err != nil {
		return err
	}
	if !ok {
		c.instances, c.values, c.arena = c.instances[:instances], c.values[:values], c.arena[:arena]
	}
	return nil
}

// onLink notes which target rows a row of a link table leads to.
func (c *Composer) onLink(rec mirror.Record) error {
	if err := c.reading.knows(rec.Schema); err != nil {
		return err
	}
	values := len(c.values)
	c.row = rec.Row.Values(c.row[:0])
	c.values = c.reading.appendSlots(c.values, c.row, rec.Schema)
	at := len(c.arena)
	arena, ok := c.linkDown.appendValues(c.arena, c.values[values:])
	c.values = c.values[:values]
	if ok {
		c.arena = arena
		c.wanted = append(c.wanted, arena[at:len(arena):len(arena)])
	}
	return nil
}

// appendAggregate appends the JSON value of an aggregate.
func (c *Composer) appendAggregate(dst []byte, f *field, rows []instance) []byte {
	var ok bool
	if c.text, ok = f.aggregate.appendText(c.text[:0], rows); !ok {
		return append(dst, "null"...)
	}
	return row.AppendJSON(dst, &f.typ, c.text)
}
