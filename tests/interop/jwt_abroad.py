"""Our access tokens by PyJWT, and its tokens for us.

    jwt_abroad.py JWKS_URL TOKEN ISSUER AUDIENCE

Verifies TOKEN by the keys at JWKS_URL. Then prints, as JSON: the claims of TOKEN, the public key (JWK) of an issuer abroad,
and a token that this issuer signs. A producers/api test calls it.
"""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


def main(jwks_url, token, issuer, audience):
    key = jwt.PyJWKClient(jwks_url).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["EdDSA"], issuer="carillon", audience="carillon")

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
    public |= {"kid": "abroad-1", "use": "sig", "alg": "RS256"}
    now = int(time.time())
    abroad = {
        "iss": issuer, "aud": [audience, "others"], "sub": "ada", "iat": now, "nbf": now, "exp": now + 300,
        "email": "ada@example.org", "email_verified": True, "name": "Ada", "zoneinfo": "Asia/Tokyo",
    }
    signed = jwt.encode(abroad, private, algorithm="RS256", headers={"kid": "abroad-1"})
    print(json.dumps({"claims": claims, "key": public, "token": signed}))


main(*sys.argv[1:])
