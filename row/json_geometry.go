package row

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
)

// The extended well-known binary of PostGIS: byte order, type with flags, SRID if there is one, then the coordinates as
// float64, or a count of parts. Parts that are geometries of their own have byte order and type again.
const (
	ewkbHasZ    = 0x80000000
	ewkbHasM    = 0x40000000
	ewkbHasSRID = 0x20000000

	// sridWGS84 is longitude and latitude, which is what GeoJSON means by itself.
	sridWGS84 = 4326

	// maxGeometryDepth is how deep collections may nest.
	maxGeometryDepth = 32
)

// geometryNames are the types of GeoJSON by their number in EWKB.
var geometryNames = [...]string{1: "Point", 2: "LineString", 3: "Polygon", 4: "MultiPoint", 5: "MultiLineString", 6: "MultiPolygon", 7: "GeometryCollection"}

const (
	ewkbPoint      = 1
	ewkbLine       = 2
	ewkbPolygon    = 3
	ewkbCollection = 7
)

// appendGeometry appends a geometry in EWKB, written in hexadecimal, as GeoJSON. It reports false, and gives dst back as it
// was, when text is not EWKB or GeoJSON has no form for it.
func appendGeometry(dst, text []byte) ([]byte, bool) {
	r := ewkbReader{rest: make([]byte, hex.DecodedLen(len(text)))}
	if _, err := hex.Decode(r.rest, text); err != nil {
		return dst, false
	}
	out := r.appendGeometry(dst, 0)
	if r.bad || len(r.rest) > 0 {
		return dst, false
	}
	return out, true
}

// ewkbReader reads EWKB once. After a fault it is bad, and gives zeros.
type ewkbReader struct {
	rest  []byte
	order binary.ByteOrder
	bad   bool
}

// take is the next n bytes, or zeros.
func (r *ewkbReader) take(n int) []byte {
	if r.bad || len(r.rest) < n {
		r.bad = true
		return make([]byte, n)
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *ewkbReader) uint32() uint32 {
	b := r.take(4)
	if r.bad {
		return 0
	}
	return r.order.Uint32(b)
}

// count is how many parts follow, of at least size bytes each.
func (r *ewkbReader) count(size int) int {
	n := r.uint32()
	if uint64(n)*uint64(size) > uint64(len(r.rest)) {
		r.bad = true
		return 0
	}
	return int(n)
}

// ewkbHeader is what stands before the coordinates.
type ewkbHeader struct {
	kind       uint32
	srid       uint32
	dimensions int
	hasZ       bool
}

func (r *ewkbReader) header() ewkbHeader {
	switch r.take(1)[0] {
	case 0:
		r.order = binary.BigEndian
	case 1:
		r.order = binary.LittleEndian
	default:
		r.bad = true
	}
	if r.bad {
		return ewkbHeader{}
	}
	word := r.uint32()
	h := ewkbHeader{kind: word &^ (ewkbHasZ | ewkbHasM | ewkbHasSRID), dimensions: 2, hasZ: word&ewkbHasZ != 0}
	if h.hasZ {
		h.dimensions++
	}
	if word&ewkbHasM != 0 {
		h.dimensions++
	}
	if word&ewkbHasSRID != 0 {
		h.srid = r.uint32()
	}
	return h
}

// appendGeometry appends one geometry object.
func (r *ewkbReader) appendGeometry(dst []byte, depth int) []byte {
	h := r.header()
	if r.bad || depth > maxGeometryDepth || h.kind == 0 || int(h.kind) >= len(geometryNames) {
		r.bad = true
		return dst
	}
	dst = append(append(append(dst, `{"type":"`...), geometryNames[h.kind]...), '"')
	if depth == 0 && h.srid != 0 && h.srid != sridWGS84 {
		dst = strconv.AppendUint(append(dst, `,"crs":{"type":"name","properties":{"name":"EPSG:`...), uint64(h.srid), 10)
		dst = append(dst, `"}}`...)
	}
	if h.kind == ewkbCollection {
		dst = r.appendList(append(dst, `,"geometries":`...), ewkbHeaderLen, func(dst []byte) []byte { return r.appendGeometry(dst, depth+1) })
	} else {
		dst = r.appendCoordinates(append(dst, `,"coordinates":`...), h)
	}
	return append(dst, '}')
}

// ewkbHeaderLen is the least that a geometry inside another one takes.
const ewkbHeaderLen = 1 + 4

// appendCoordinates appends the coordinates of a geometry that is no collection.
func (r *ewkbReader) appendCoordinates(dst []byte, h ewkbHeader) []byte {
	position := func(dst []byte) []byte { return r.appendPosition(dst, h) }
	line := func(dst []byte) []byte { return r.appendList(dst, 8*h.dimensions, position) }
	switch h.kind {
	case ewkbPoint:
		return r.appendPosition(dst, h)
	case ewkbLine:
		return line(dst)
	case ewkbPolygon:
		return r.appendList(dst, 4, line)
	}
	part := h.kind - 3 // a multi point is of points, and so on
	return r.appendList(dst, ewkbHeaderLen, func(dst []byte) []byte {
		inner := r.header()
		if r.bad || inner.kind != part {
			r.bad = true
			return dst
		}
		return r.appendCoordinates(dst, inner)
	})
}

// appendList appends a JSON array of what one writes, as often as the count that comes next says.
func (r *ewkbReader) appendList(dst []byte, size int, one func([]byte) []byte) []byte {
	n := r.count(size)
	dst = append(dst, '[')
	for i := 0; i < n && !r.bad; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = one(dst)
	}
	return append(dst, ']')
}

// appendPosition appends the coordinates of one place. The point that is nowhere has none.
func (r *ewkbReader) appendPosition(dst []byte, h ewkbHeader) []byte {
	var at [4]float64
	b := r.take(8 * h.dimensions)
	if r.bad {
		return dst
	}
	for i := range h.dimensions {
		at[i] = math.Float64frombits(r.order.Uint64(b[8*i:]))
	}
	shown := 2
	if h.hasZ {
		shown = 3
	}
	if h.kind == ewkbPoint && math.IsNaN(at[0]) && math.IsNaN(at[1]) {
		return append(dst, "[]"...)
	}
	dst = append(dst, '[')
	for i, f := range at[:shown] {
		if i > 0 {
			dst = append(dst, ',')
		}
		if math.IsNaN(f) || math.IsInf(f, 0) {
			r.bad = true
			return dst
		}
		dst = appendCoordinate(dst, f)
	}
	return append(dst, ']')
}

// appendCoordinate appends a number that reads back as the same one.
func appendCoordinate(dst []byte, f float64) []byte {
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}
