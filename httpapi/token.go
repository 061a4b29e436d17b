package httpapi

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
)

// Token is a place in the source's history that a client has seen: what it wrote, or what an answer reflected.
//
//	token    = ( lsn | "xid:" number ) [ "@" epoch ]
//	lsn      = hex "/" hex                       pg_current_wal_flush_lsn() after the commit
//	number   = digits                            pg_current_xact_id() in the transaction
//	epoch    = system identifier "-" timeline    as in the header Lanternist-Position
type Token struct {
	LSN   pglogrepl.LSN
	XID   uint64 // 0 when the token is a position
	Epoch string // "" when the token does not say
}

// tokenBytesMax is longer than any token.
const tokenBytesMax = 96

var errToken = errors.New(`want a position such as 0/16B3748 or a transaction such as xid:1234, followed by @<epoch> if it is known`)

// ParseToken reads a token.
func ParseToken(text string) (Token, error) {
	if len(text) > tokenBytesMax {
		return Token{}, errToken
	}
	var t Token
	place, epoch, dated := strings.Cut(text, "@")
	if dated {
		if !validEpoch(epoch) {
			return Token{}, fmt.Errorf("epoch %q: %w", epoch, errToken)
		}
		t.Epoch = epoch
	}
	if number, ok := strings.CutPrefix(place, "xid:"); ok {
		xid, err := strconv.ParseUint(number, 10, 64)
		if err != nil || xid == 0 || !isDigits(number) {
			return Token{}, fmt.Errorf("transaction %q: %w", number, errToken)
		}
		t.XID = xid
		return t, nil
	}
	lsn, err := parseLSN(place)
	if err != nil {
		return Token{}, err
	}
	t.LSN = lsn
	return t, nil
}

// parseLSN reads what Postgres prints. pglogrepl.ParseLSN ignores what follows the number.
func parseLSN(text string) (pglogrepl.LSN, error) {
	high, low, ok := strings.Cut(text, "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("position %q: %w", text, errToken)
	}
	return pglogrepl.LSN(h<<32 | l), nil
}

// String is the token's text.
func (t Token) String() string {
	place := t.LSN.String()
	if t.XID != 0 {
		place = "xid:" + strconv.FormatUint(t.XID, 10)
	}
	if t.Epoch != "" {
		return place + "@" + t.Epoch
	}
	return place
}

var epochPattern = regexp.MustCompile(`^[0-9]{1,20}-[0-9]{1,10}$`)

func validEpoch(epoch string) bool { return epochPattern.MatchString(epoch) }

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
