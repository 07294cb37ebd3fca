-- A sign-out everywhere takes back what a person approved and no device has fetched.
CREATE INDEX device_sessions_of_user ON identity.device_sessions (user_id) WHERE state = 'approved';
