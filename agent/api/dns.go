package api

// DNSAnswer is an answer of DNS in JSON, as public resolvers give it
// (application/dns-json).
type DNSAnswer struct {
	Status     int           // response code, RFC 1035 and RFC 6895
	TC         bool          // truncated
	RD         bool          // recursion desired: always true
	RA         bool          // recursion available: never
	AD         bool          // authentic data: never
	CD         bool          // checking disabled, as asked
	Question   []DNSQuestion // the one that was asked
	Answer     []DNSRecord   `json:",omitempty"`
	Authority  []DNSRecord   `json:",omitempty"`
	Additional []DNSRecord   `json:",omitempty"`
	Comment    string        `json:",omitempty"` // what an extended error (RFC 8914) says
}

// DNSQuestion is a question of DNS.
type DNSQuestion struct {
	Name string `json:"name"` // with a dot at the end, as asked
	Type uint16 `json:"type"`
}

// DNSRecord is a record of DNS.
type DNSRecord struct {
	Name string `json:"name"` // with a dot at the end
	Type uint16 `json:"type"`
	TTL  uint32 `json:"TTL"`  // seconds
	Data string `json:"data"` // as in a zone file
}
