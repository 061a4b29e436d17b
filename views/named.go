package views

import (
	"fmt"
	"slices"

	"github.com/lanternist/lanternist/row"
)

// IsName says whether name can be the name of a view: part of an index name, a key prefix and a URL as it is.
func IsName(name string) bool { return isViewName(name) }

// Schemas are the definitions of the tables that the view was compiled against, each once.
func (v *View) Schemas() []*row.Schema {
	var schemas []*row.Schema
	for _, o := range v.objects {
		if !slices.Contains(schemas, o.schema) {
			schemas = append(schemas, o.schema)
		}
	}
	return schemas
}

// Fixed is the same view under another name, for documents that are written once: they do not expire.
func (v *View) Fixed(name string) (*View, error) {
	if v.source == "" {
		return nil, fmt.Errorf("view %s has a definition that is too large to be kept", v.name)
	}
	return Fixed(name, v.source, v.Schemas())
}

// Fixed is what View.Fixed makes of the view that source declares, against these definitions of tables.
func Fixed(name, source string, schemas []*row.Schema) (*View, error) {
	if !IsName(name) {
		return nil, fmt.Errorf("%q is not a name: lower-case letters, digits and _, a letter first, at most 63 bytes", name)
	}
	defs, err := Parse(name, []byte(source))
	if err != nil {
		return nil, err
	}
	if len(defs) != 1 {
		return nil, fmt.Errorf("the text that is kept of view %s declares %d views", name, len(defs))
	}
	def := *defs[0]
	def.Name = name
	if def.cache != nil {
		cache := *def.cache
		cache.ttl = 0
		def.cache = &cache
	}
	list, err := Compile([]*Definition{&def}, schemas)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}
