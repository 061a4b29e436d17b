package cdc

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/lanternist/lanternist/row"
)

// escapeCopy writes a value as COPY TO does.
func escapeCopy(s string) string {
	return strings.NewReplacer("\\", `\\`, "\b", `\b`, "\f", `\f`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\v", `\v`).Replace(s)
}

func TestCopyParserUndoesEscapes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 4).Draw(t, "columns")
		value := rapid.OneOf(rapid.SampledFrom([]string{"", `\N`, `\`, "\\\\", "\t", "\n", "N", `\.`, "a\\", "\r\n\b\f\v"}),
			rapid.StringOf(rapid.RuneFrom([]rune("abN\\\t\n\r\b\f\vé0. "))))
		var want []row.Row
		var stream strings.Builder
		for range rapid.IntRange(0, 20).Draw(t, "rows") {
			var values []*string
			for c := range columns {
				if c > 0 {
					stream.WriteByte('\t')
				}
				if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
					values = append(values, nil)
					stream.WriteString(`\N`)
					continue
				}
				v := value.Draw(t, "value")
				values = append(values, &v)
				stream.WriteString(escapeCopy(v))
			}
			stream.WriteByte('\n')
			want = append(want, row.Of(values...))
		}
		var got []row.Row
		p := newCopyParser(columns, func(rows []row.Row) error {
			for _, r := range rows {
				got = append(got, bytes.Clone(r))
			}
			return nil
		})
		for rest := stream.String(); rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if m, err := p.Write([]byte(rest[:n])); m != n || err != nil {
				t.Fatalf("write of %d bytes: %d, %v", n, m, err)
			}
			rest = rest[n:]
		}
		if err := p.finish(); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%d rows, want %d", len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("row %d is %q, want %q", i, got[i], want[i])
			}
		}
	})
}

func TestCopyParserRefusesWhatIsNotARow(t *testing.T) {
	for input, want := range map[string]string{
		"a\n":       "a row has 1 values, want 2",
		"a\tb\tc\n": "a row has 3 values, want 2",
		"a\tb":      "the last row has no end",
	} {
		p := newCopyParser(2, func([]row.Row) error { return nil })
		_, err := p.Write([]byte(input))
		if err == nil {
			err = p.finish()
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", input, err, want)
		}
	}
}

func TestCopyParserHandsOverBoundedBatches(t *testing.T) {
	line := []byte(strings.Repeat("x", 1000) + "\ty\n")
	batches, rows := 0, 0
	p := newCopyParser(2, func(batch []row.Row) error {
		size := 0
		for _, r := range batch {
			size += len(r)
		}
		if size > copyBatchBytes+len(line)+16 {
			t.Errorf("a batch of %d bytes", size)
		}
		batches++
		rows += len(batch)
		return nil
	})
	for range 2000 {
		if _, err := p.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.finish(); err != nil {
		t.Fatal(err)
	}
	if rows != 2000 || batches < 3 {
		t.Errorf("%d rows in %d batches, want 2000 in more", rows, batches)
	}
}

func BenchmarkCopyParser(b *testing.B) {
	line := []byte("123456\tsome words of ordinary length\t2026-11-20 23:04:12+00\t\\N\t99.95\ta\\tb\n")
	p := newCopyParser(6, func([]row.Row) error { return nil })
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Write(line); err != nil {
			b.Fatal(err)
		}
	}
}
