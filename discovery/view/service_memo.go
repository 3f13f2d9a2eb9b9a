package view

// Memo returns the result of build for key, made once for each revision of the service:
// the results are dropped when the service changes. Memo counts as a lookup. build may run
// several times at once, and then one result is used; Memo holds no lock while it runs.
func (s *Service) Memo(key any, build func() any) any {
	s.MarkUsed()
	if v, ok := s.memo.Load(key); ok {
		return v
	}
	v, _ := s.memo.LoadOrStore(key, build())
	return v
}
