package view

// Memo returns what make made when Memo was first called with key on this service,
// so that what is derived from a service is made once for each revision of it and
// goes when the service changes. make may run more than once at the same time; one
// result is kept. It takes no lock that a maker holds.
func (s *Service) Memo(key any, make func() any) any {
	s.MarkUsed()
	if v, ok := s.memo.Load(key); ok {
		return v
	}
	v, _ := s.memo.LoadOrStore(key, make())
	return v
}
