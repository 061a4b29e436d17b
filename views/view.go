package views

import (
	"strings"
	"time"

	"github.com/lanternist/lanternist/mirror"
	"github.com/lanternist/lanternist/row"
)

// View is a compiled definition. It is immutable and safe for concurrent use; documents are composed by a
// Composer, which is not.
type View struct {
	name    string
	file    string
	hash    string
	source  string
	root    *object
	objects []*object // the root and every joined table, link tables included, parents first
	byTable map[uint32][]*object
	tables  []uint32
	indexes []mirror.Index
	fields  []Field
	where   *program
	search  *SearchOptions
	cache   *CacheOptions
	lookups []lookupPath
	outline []Line
}

// Name is the view's name.
func (v *View) Name() string { return v.name }

// Hash changes when the documents, their mapping or their lookups may: it covers the definition and the types of
// the columns it uses. It is the same in every process.
func (v *View) Hash() string { return v.hash }

// Source is the text of the definition that the view was compiled from. See Definition.Source.
func (v *View) Source() string { return v.source }

// Root is the definition of the root table that the view was compiled against.
func (v *View) Root() *row.Schema { return v.root.schema }

// Filtered says that not every row of the root table has a document: the definition has a where.
func (v *View) Filtered() bool { return v.where != nil }

// Tables lists the OIDs of the tables that the view depends on, each once, in ascending order.
func (v *View) Tables() []uint32 { return v.tables }

// Indexes lists the mirror indexes that composing and finding affected documents need. Joins on a primary key,
// or on the first columns of one, need none.
func (v *View) Indexes() []mirror.Index { return v.indexes }

// Fields describes the document, in its order, for mappings. Hidden joins are not part of it.
func (v *View) Fields() []Field { return v.fields }

// Search is the view's search section; nil when the view does not go to the search sink.
func (v *View) Search() *SearchOptions { return v.search }

// Cache is the view's cache section; nil when the view does not go to the cache sink.
func (v *View) Cache() *CacheOptions { return v.cache }

// Field is one member of a document or of a joined object in it.
type Field struct {
	Name     string   // in its object: "sku"
	Path     string   // from the document: "items.sku"
	Type     row.Type // of a scalar. Class JSON: any JSON value. Of an array column: class Array
	As       string   // the type that the definition asks the search sink for; "" for the default
	Many     bool     // the value is a list: a many join, or a computed list
	Children []Field  // of a joined object, or of each object in the list; empty for scalars
}

// SearchOptions is a view's search section. The maps are as in the definition, ready for encoding/json.
type SearchOptions struct {
	Settings map[string]any // index settings, laid over the defaults
	Mappings map[string]any // properties by field name, laid over those derived from the column types
	Analysis map[string]any // analyzers, tokenizers, filters and normalizers (index settings, "analysis")
	Dynamic  string         // "true", "false", "strict" or "runtime"; "" for the sink's default
}

// CacheOptions is a view's cache section.
type CacheOptions struct {
	TTL     time.Duration // how long a document stays without a change; 0 is for ever
	Lookups []Lookup
}

// Lookup is a declared way to find documents in the cache by the value of one or more fields.
type Lookup struct {
	Fields []string // paths of document fields, or columns of the root table
}

// Name is the fields joined with "+": "customer_id", "status+country".
func (l Lookup) Name() string { return strings.Join(l.Fields, "+") }

// Value is the lookup value for the given field values, as Document.Lookups has it: the text itself when there
// is one field, else the parts joined like those of an ID. It is "" when a part is.
func (l Lookup) Value(parts ...string) string {
	for _, p := range parts {
		if p == "" {
			return ""
		}
	}
	return joinParts(parts)
}

// Document is one composed document. Its memory belongs to the Composer until Reset.
type Document struct {
	Key  []byte // encoding of the root's primary key (row.Schema.AppendKey)
	ID   string // see View.ID
	Body []byte // JSON, one line; nil when the document does not exist: its root row is gone or where excludes it
	// Lookups has the value of each declared lookup; "" when it is null, or when Body is nil.
	Lookups []string
}
