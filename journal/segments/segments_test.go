package segments

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/lanternist/lanternist/journal"
	"github.com/lanternist/lanternist/journal/journaltest"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashDir) != "" {
		crashWriter()
		return
	}
	if os.Getenv(growDir) != "" {
		growWriter()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	for name, size := range map[string]int{"default segments": 0, "small segments": 16 << 10} {
		t.Run(name, func(t *testing.T) {
			journaltest.Run(t, func(_ *testing.T, home string) (journal.Log, error) {
				log, err := Open(home, Config{SegmentSize: size}, slog.New(slog.DiscardHandler))
				if err != nil {
					return nil, err
				}
				return log, nil
			})
		})
	}
}
