package cdc

import (
	"testing"

	"github.com/lanternist/lanternist/row"
)

// Types of extensions that a server of the tests does not have, as their catalog rows are.
func TestClassifyExtensions(t *testing.T) {
	types := catalogTypes{
		1: {oid: 1, formatted: "gis.geometry", namespace: "gis", name: "geometry", kind: "b", baseMod: -1, delim: ":"},
		2: {oid: 2, formatted: "gis.geometry[]", namespace: "gis", name: "_geometry", kind: "b", baseMod: -1, element: 1, delim: ":"},
		3: {oid: 3, formatted: "public.vector", namespace: "public", name: "vector", kind: "b", baseMod: -1, delim: ","},
		4: {oid: 4, formatted: "public.embedding", namespace: "public", name: "embedding", kind: "d", base: 3, baseMod: 1536, delim: ","},
		5: {oid: 5, formatted: "public.vector", namespace: "public", name: "vector", kind: "c", baseMod: -1, delim: ","},
		6: {oid: 6, formatted: "public.hstore", namespace: "public", name: "hstore", kind: "b", baseMod: -1, delim: ","},
		7: {oid: 7, formatted: "public.ltree", namespace: "public", name: "ltree", kind: "b", baseMod: -1, delim: ","},
	}
	for oid, want := range map[uint32]row.Type{
		1: {Class: row.Geometry, Mod: -1, Delim: ':'}, 2: {Class: row.Array, Mod: -1, Delim: ':'}, 3: {Class: row.Vector, Mod: -1},
		4: {Class: row.Vector, Mod: 1536}, 5: {Class: row.Composite, Mod: -1}, 6: {Class: row.HStore, Mod: -1}, 7: {Class: row.Other, Mod: -1},
		8: {Class: row.Other, Mod: -1},
	} {
		got := types.column(oid, -1)
		if got.Class != want.Class || got.Mod != want.Mod || got.Delim != want.Delim {
			t.Errorf("type %d is %+v, want %+v", oid, got, want)
		}
	}
	if elem := types.column(2, 4326<<8).Elem; elem == nil || elem.Class != row.Geometry || elem.Delim != ':' || elem.Mod != 4326<<8 {
		t.Errorf("elements of an array of geometries are %+v", elem)
	}
	if got := types.column(3, 3); got.Mod != 3 {
		t.Errorf("vector(3) is %+v", got)
	}
}
