package httpapi

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lanternist/lanternist/internal/disk"
)

// SlotStatus is what the source keeps for the daemon's slot.
type SlotStatus struct {
	Restart       string      `json:"restart" doc:"Where the log begins that the source keeps for the slot."`
	RetainedBytes uint64      `json:"retained_bytes" doc:"From there to the log's end."`
	WALStatus     string      `json:"wal_status" doc:"As pg_replication_slots has it: reserved, extended, unreserved or lost."`
	Seen          time.Time   `json:"seen" doc:"When the source was asked."`
	Holder        *SlotHolder `json:"holder,omitempty" doc:"The oldest open transaction that writes, when it is older than ten seconds: the source keeps its log from that transaction's beginning."`
}

// SlotHolder is an open transaction on the source.
type SlotHolder struct {
	PID         int     `json:"pid,omitempty" doc:"Of the session; absent for a prepared transaction."`
	Prepared    string  `json:"prepared,omitempty" doc:"The name of a prepared transaction."`
	XID         uint32  `json:"xid"`
	Database    string  `json:"database,omitempty"`
	User        string  `json:"user,omitempty"`
	Application string  `json:"application,omitempty"`
	State       string  `json:"state,omitempty" doc:"As pg_stat_activity has it, if the daemon's role may see it."`
	Seconds     float64 `json:"seconds,omitempty" doc:"Since the transaction began, if the daemon's role may see it."`
	Text        string  `json:"text" doc:"Who it is, and how to end it."`
}

// disks are the stores that wait for their disk.
func (s *Server) disks() []disk.Waiting {
	waiting := []disk.Waiting{}
	if s.waitingDisks == nil {
		return waiting
	}
	return append(waiting, s.waitingDisks()...)
}

// slot is what the source keeps; nil when it is not known.
func (s *Server) slot() *SlotStatus {
	if s.slotStatus == nil {
		return nil
	}
	return s.slotStatus()
}

// resourceMetrics are the gauges of disks and slot, read when they are asked for.
func (s *Server) resourceMetrics() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lanternist_disk_waiting_seconds", Help: "For how long a store has been waiting for room on its disk, or for a file descriptor; 0 when none does.",
		}, func() float64 {
			longest := 0.0
			for _, w := range s.disks() {
				longest = max(longest, time.Since(w.Since).Seconds())
			}
			return longest
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lanternist_slot_retained_bytes", Help: "Bytes of log that the source keeps for the slot.",
		}, func() float64 {
			if slot := s.slot(); slot != nil {
				return float64(slot.RetainedBytes)
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lanternist_slot_holder_seconds", Help: "Age of the oldest open transaction that has the source keep its log; 0 when there is none older than ten seconds.",
		}, func() float64 {
			if slot := s.slot(); slot != nil && slot.Holder != nil {
				return slot.Holder.Seconds
			}
			return 0
		}),
	}
}
