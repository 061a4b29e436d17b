package views

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// appendFloat appends a float as Postgres names it.
func appendFloat(dst []byte, f float64, single bool) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	bits, large := 64, 1e15
	if single {
		bits, large = 32, 1e6
		if math.IsInf(float64(float32(f)), 0) {
			return append(dst, "Infinity"...)
		}
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-4 || abs >= large) {
		return strconv.AppendFloat(dst, f, 'e', -1, bits)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, bits)
}

// decimalSum adds decimal texts exactly. The result has the scale of the addend with the largest one. It stays
// in an int64 while that is enough.
type decimalSum struct {
	small   int64    // the sum times 10^scale, while big is nil
	big     *big.Int // the same, once small was too small
	scale   int
	special specialSum
}

// specialSum is what the addends that are not numbers add up to.
type specialSum uint8

const (
	finite specialSum = iota
	plusInfinity
	minusInfinity
	notANumber
)

// add adds one value.
func (s *decimalSum) add(text []byte) {
	if rank := numericRank(text); rank != 0 {
		s.addSpecial(rank)
		return
	}
	scale := 0
	if _, fraction := splitDecimal(text); len(fraction) > 0 {
		scale = len(fraction)
	}
	s.rescale(scale)
	if s.big == nil {
		if v, ok := parseScaled(text, s.scale-scale); ok {
			sum := s.small + v
			if (sum > s.small) == (v > 0) {
				s.small = sum
				return
			}
		}
		s.big = big.NewInt(s.small)
	}
	digits := strings.Replace(string(text), ".", "", 1)
	v, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		s.special = notANumber
		return
	}
	s.big.Add(s.big, v.Mul(v, powerOfTen(s.scale-scale)))
}

// addSpecial adds an infinity or NaN.
func (s *decimalSum) addSpecial(rank int) {
	v := notANumber
	switch rank {
	case 1:
		v = plusInfinity
	case -1:
		v = minusInfinity
	}
	if s.special != finite && s.special != v {
		v = notANumber
	}
	s.special = v
}

// rescale makes the scale at least the given one.
func (s *decimalSum) rescale(scale int) {
	if scale <= s.scale {
		return
	}
	by := scale - s.scale
	s.scale = scale
	if s.big == nil {
		if v, ok := timesPower(s.small, by); ok {
			s.small = v
			return
		}
		s.big = big.NewInt(s.small)
	}
	s.big.Mul(s.big, powerOfTen(by))
}

// append appends the sum's text.
func (s *decimalSum) append(dst []byte) []byte {
	switch s.special {
	case plusInfinity:
		return append(dst, "Infinity"...)
	case minusInfinity:
		return append(dst, "-Infinity"...)
	case notANumber:
		return append(dst, "NaN"...)
	}
	var scratch [32]byte
	digits := strconv.AppendInt(scratch[:0], s.small, 10)
	if s.big != nil {
		digits = s.big.Append(scratch[:0], 10)
	}
	if digits[0] == '-' {
		dst = append(dst, '-')
		digits = digits[1:]
	}
	if whole := len(digits) - s.scale; whole > 0 {
		dst = append(dst, digits[:whole]...)
		digits = digits[whole:]
	} else {
		dst = append(dst, '0')
	}
	if s.scale == 0 {
		return dst
	}
	dst = append(dst, '.')
	for range s.scale - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// parseScaled is the digits of a decimal text as an integer, times 10^by; false when that may not fit.
func parseScaled(text []byte, by int) (int64, bool) {
	negative := text[0] == '-'
	if negative {
		text = text[1:]
	}
	if len(text) > 18 {
		return 0, false
	}
	v := int64(0)
	for _, c := range text {
		if c == '.' {
			continue
		}
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if negative {
		v = -v
	}
	return timesPower(v, by)
}

// timesPower is v times 10^by; false when that does not fit.
func timesPower(v int64, by int) (int64, bool) {
	for range by {
		if v > math.MaxInt64/10 || v < math.MinInt64/10 {
			return 0, false
		}
		v *= 10
	}
	return v, true
}

func powerOfTen(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}
