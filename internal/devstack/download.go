package devstack

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

// stallLimit ends a download that receives nothing for so long.
const stallLimit = time.Minute

// download returns a fetch function: it copies url to a file and compares it with the checksum published at
// sumURL (.sha256 or .sha512, hex, a file name may follow).
func (c *cache) download(url, sumURL string) func(context.Context, string) error {
	return func(ctx context.Context, to string) error {
		want, err := c.publishedSum(ctx, sumURL)
		if err != nil {
			return err
		}
		var sum hash.Hash
		switch path.Ext(sumURL) {
		case ".sha256":
			sum = sha256.New()
		case ".sha512":
			sum = sha512.New()
		default:
			return fmt.Errorf("unknown kind of checksum: %s", sumURL)
		}
		if err := c.copy(ctx, url, to, sum); err != nil {
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want {
			return fmt.Errorf("%s: %w: checksum is %s, %s says %s", url, errChecksum, got, sumURL, want)
		}
		return nil
	}
}

func (c *cache) publishedSum(ctx context.Context, url string) (string, error) {
	body, _, err := c.get(ctx, url)
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, 4<<10))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return "", fmt.Errorf("%s is empty", url)
	}
	return strings.ToLower(fields[0]), nil
}

// copy downloads url to the new file to, with progress, feeding sum.
func (c *cache) copy(ctx context.Context, url, to string, sum io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body, size, err := c.get(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make download file: %w", err)
	}
	meter := newMeter(path.Base(url), size, c.progress)
	stall := time.AfterFunc(stallLimit, func() { cancel(fmt.Errorf("nothing received for %s", stallLimit)) })
	defer stall.Stop()
	alive := writerFunc(func(p []byte) (int, error) { stall.Reset(stallLimit); return len(p), nil })
	_, err = io.Copy(io.MultiWriter(file, sum, meter, alive), body)
	if err != nil {
		err = fmt.Errorf("download %s: %w", url, errors.Join(err, context.Cause(ctx)))
	}
	return errors.Join(err, file.Close())
}

// get opens url and returns its size, -1 when unknown.
func (c *cache) get(ctx context.Context, url string) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("download %s: %w", url, err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("download: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, errors.Join(fmt.Errorf("download %s: %s", url, resp.Status), resp.Body.Close())
	}
	return resp.Body, resp.ContentLength, nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// meter reports the progress of one download: a line at the start, one a second, and one at the end.
type meter struct {
	name        string
	size, done  int64
	began, last time.Time
	report      func(line string)
}

func newMeter(name string, size int64, report func(string)) *meter {
	m := &meter{name: name, size: size, began: time.Now(), report: report}
	m.line()
	return m
}

func (m *meter) Write(p []byte) (int, error) {
	m.done += int64(len(p))
	if m.done == m.size || time.Since(m.last) >= time.Second {
		m.line()
	}
	return len(p), nil
}

func (m *meter) line() {
	m.last = time.Now()
	const mib = 1 << 20
	done := float64(m.done) / mib
	rate := done / max(time.Since(m.began).Seconds(), 0.001)
	if m.size > 0 {
		m.report(fmt.Sprintf("downloading %s: %3d%% of %.1f MiB, %.1f MiB/s", m.name, m.done*100/m.size, float64(m.size)/mib, rate))
		return
	}
	m.report(fmt.Sprintf("downloading %s: %.1f MiB, %.1f MiB/s", m.name, done, rate))
}
