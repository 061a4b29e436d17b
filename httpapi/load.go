package httpapi

// LoadStatus is how far the first load of tables is.
type LoadStatus struct {
	Loading bool        `json:"loading"`
	Rows    int64       `json:"rows"`
	Total   int64       `json:"total" doc:"An estimate."`
	Failing []LoadError `json:"failing,omitempty" doc:"Tables that cannot be read now, and are tried again. The others go on."`
}

// LoadError says why a table cannot be read.
type LoadError struct {
	Table    string `json:"table"`
	Error    string `json:"error"`
	Attempts int    `json:"attempts"`
}
