package api

// DNSAnswer is a DNS response in JSON, in the format of public resolvers
// (application/dns-json).
type DNSAnswer struct {
	Status     int           // response code, RFC 1035 and RFC 6895
	TC         bool          // truncated
	RD         bool          // recursion desired: always true
	RA         bool          // recursion available: never
	AD         bool          // authentic data: never
	CD         bool          // checking disabled, as in the request
	Question   []DNSQuestion // the one of the request
	Answer     []DNSRecord   `json:",omitempty"`
	Authority  []DNSRecord   `json:",omitempty"`
	Additional []DNSRecord   `json:",omitempty"`
	Comment    string        `json:",omitempty"` // text of an extended DNS error (RFC 8914)
}

// DNSQuestion is a DNS question (RFC 1035).
type DNSQuestion struct {
	Name string `json:"name"` // with a dot at the end, spelled as in the request
	Type uint16 `json:"type"`
}

// DNSRecord is a DNS resource record (RFC 1035).
type DNSRecord struct {
	Name string `json:"name"` // with a dot at the end
	Type uint16 `json:"type"`
	TTL  uint32 `json:"TTL"`  // seconds
	Data string `json:"data"` // in the format of a zone file
}
