package event

import "strconv"

// Source is the database that events come from.
type Source struct {
	SystemID string // of the Postgres cluster, decimal as Postgres prints it
	Database string
}

// String is the source as events name it: "lanternist://7351234567890123456/shop".
func (s Source) String() string { return string(s.append(nil)) }

// append appends what String returns.
func (s Source) append(dst []byte) []byte {
	dst = append(dst, "lanternist://"...)
	dst = append(dst, s.SystemID...)
	dst = append(dst, '/')
	return append(dst, s.Database...)
}

// appendSystem appends the part of event ids that tells clusters apart: the system identifier in 16 hexadecimal digits,
// or as it is when it is no number.
func (s Source) appendSystem(dst []byte) []byte {
	id, err := strconv.ParseUint(s.SystemID, 10, 64)
	if err != nil {
		return append(dst, s.SystemID...)
	}
	return appendHex(dst, id, 16)
}

// appendHex appends the last digits hexadecimal digits of v.
func appendHex(dst []byte, v uint64, digits int) []byte {
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789abcdef"[v>>shift&0xf])
	}
	return dst
}
